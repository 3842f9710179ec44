import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { createEtcdClient, toBase64 } from "../../coordinator/store/etcd-client.ts";
import { askOverHttp, type EtcdAccess } from "../../coordinator/store/etcd-http.ts";
import { locateEtcd } from "../../scripts/commands/etcd-options.ts";
import { Candidate } from "../fixtures/candidate.ts";
import { TestAuthority } from "../fixtures/certificates.ts";
import { EtcdCluster, etcdIsInstalled, freePorts, openLeadingStore } from "../fixtures/etcd-cluster.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";

/** A real etcd that lets in whoever shows a password, or a certificate. */

const password = "correct horse battery staple";
const user = { name: "ringfold", password };
const write = (etcd: EtcdCluster, access?: EtcdAccess) => (key: string) =>
  etcd.client(access).call("kv/put", { key: toBase64(key), value: toBase64("x") }, z.unknown());
const ask = (endpoint: string, access: EtcdAccess) =>
  createEtcdClient([endpoint], askOverHttp(access)).call("kv/range", { key: toBase64("a") }, z.unknown());
const denied = (remedy: string) => ({
  ...{ code: "STORE_DENIED", rule: { exit: 77 }, remedy: expect.stringContaining(remedy) },
});

/** Users, as `etcdctl` would make them: the coordinators' may write below `lab/` alone. */
async function enableUsers(etcd: EtcdCluster): Promise<void> {
  const call = (path: string, body: object) => etcd.client().call(`auth/${path}`, body, z.unknown());
  for (const { name, ...rest } of [{ name: "root", password: "root" }, user]) {
    await call("user/add", { name, ...rest });
    await call("role/add", { name });
    await call("user/grant", { user: name, role: name });
  }
  const perm = { permType: "READWRITE", key: toBase64("lab/"), range_end: toBase64("lab0") };
  await call("role/grant", { name: user.name, perm });
  await call("enable", {});
}

describe.skipIf(!etcdIsInstalled)("etcd with users", () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
    await enableUsers(etcd);
  });
  afterAll(() => etcd.close());

  test.each([
    ["nobody", undefined, "lab/x", "--etcd-user and --etcd-password-file"],
    ["a stranger", { name: "stranger", password }, "lab/x", "user stranger"],
    ["a wrong password", { ...user, password: "guessed" }, "lab/x", "--etcd-password-file"],
    ["a prefix that was not granted", user, "other/x", "grant-permission"],
  ])("%s is refused, with what to do", async (_what, shown, key, remedy) => {
    const access = shown && { user: shown };
    const refused = await write(etcd, access)(key).catch((error: unknown) => error);
    expect(refused).toMatchObject(denied(remedy));
    expect(JSON.stringify(refused) + String(refused)).not.toMatch(/correct horse|guessed/);
  });

  test("a coordinator with its password leads and decides, also after etcd has forgotten its token", async () => {
    const client = etcd.client({ user });
    const store = await openLeadingStore({ client: () => client }, "lab/");
    await store.write([{ key: "a", value: Buffer.from("1") }]);
    await etcd.kill(0);
    etcd.startNode(0);
    await store.write([{ key: "b", value: Buffer.from("2") }]);
    await store.close();
    const again = await openLeadingStore({ client: () => etcd.client({ user }) }, "lab/");
    expect([...again.list("")].map(({ key }) => key)).toEqual(expect.arrayContaining(["a", "b"]));
    await again.close();
  }, 30_000);

  test("its process shows the password to nobody else", async () => {
    const folder = temporaryFolder();
    const [file, logPath] = [join(folder, "password"), join(folder, "log")];
    writeFileSync(file, `${password}\n`, { mode: 0o600 });
    const [port, httpPort] = await freePorts(2);
    const candidate = new Candidate(
      [
        ...["--store", `etcd://${new URL(etcd.endpoints[0]!).host}/lab`, "--data", join(folder, "data")],
        ...["--listen", `127.0.0.1:${port}`, "--http", `127.0.0.1:${httpPort}`],
        ...["--etcd-user", user.name, "--etcd-password-file", file],
      ],
      { logPath },
    );
    onTestFinished(() => candidate.kill());
    await candidate.says("ready");
    expect(readFileSync(`/proc/${candidate.pid}/cmdline`, "utf8")).not.toContain(password);
    await candidate.kill();
    expect(readFileSync(logPath, "utf8")).not.toContain(password);
  }, 30_000);
});

describe.skipIf(!etcdIsInstalled)("etcd over TLS that wants certificates", () => {
  let folder: string;
  let etcd: EtcdCluster;
  let authority: TestAuthority;
  let ours: { certificate: string; key: string };
  const text = (path: string) => readFileSync(path, "utf8");
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ringfold-tls-"));
    authority = new TestAuthority(folder, "authority");
    const server = authority.sign("etcd");
    ours = authority.sign("coordinator");
    etcd = await EtcdCluster.start(1, {
      options: [
        ...["--cert-file", server.certificate, "--key-file", server.key],
        ...["--client-cert-auth", "--trusted-ca-file", authority.certificate],
      ],
      access: {
        authority: text(authority.certificate),
        certificate: { certificate: text(ours.certificate), key: text(ours.key) },
      },
    });
  });
  afterAll(async () => {
    await etcd.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("who shows one of the authority's leads and decides", async () => {
    const location = await locateEtcd(
      {
        store: { endpoints: etcd.endpoints, prefix: "lab/" },
        etcdCa: authority.certificate,
        ...{ etcdCert: ours.certificate, etcdKey: ours.key },
      },
      {},
    );
    const store = await openLeadingStore({ client: () => etcd.client(location!.access) }, "lab/");
    await store.write([{ key: "a", value: Buffer.from("1") }]);
    await store.close();
  });

  test("without the authority etcd is not trusted, and without a certificate, or with a stranger's, we are not", async () => {
    const trusted = { authority: text(authority.certificate) };
    await expect(write(etcd, {})("a")).rejects.toMatchObject(denied("--etcd-ca"));
    await expect(write(etcd, trusted)("a")).rejects.toMatchObject(denied("--etcd-cert and --etcd-key"));
    const stranger = new TestAuthority(folder, "stranger").sign("stranger-s");
    const certificate = { certificate: text(stranger.certificate), key: text(stranger.key) };
    await expect(write(etcd, { ...trusted, certificate })("a")).rejects.toMatchObject(denied("--etcd-cert"));
  });

  test("a host that its certificate does not name is named", async () => {
    const { port } = new URL(etcd.endpoints[0]!);
    const asked = ask(`https://localhost:${port}`, { authority: text(authority.certificate) });
    await expect(asked).rejects.toMatchObject(denied("Name the host"));
  });
});

describe("what is shown to etcd", () => {
  const store = { endpoints: ["http://127.0.0.1:1"], prefix: "lab/" };
  const file = (content: string) => {
    const path = join(temporaryFolder(), "file");
    writeFileSync(path, content);
    return path;
  };

  test("comes from options, or from the environment", async () => {
    const path = file("secret\n");
    const shown = { user: { name: "ringfold", password: "secret" } };
    expect(await locateEtcd({ store, etcdUser: "ringfold", etcdPasswordFile: path }, {})).toMatchObject({
      access: shown,
    });
    const env = { RINGFOLD_ETCD_USER: "ringfold", RINGFOLD_ETCD_PASSWORD: "secret" };
    expect(await locateEtcd({ store }, env)).toMatchObject({ access: shown });
    expect(await locateEtcd({}, env)).toBeUndefined();
  });

  test.each([
    [{ etcdUser: "ringfold" }, "Give --etcd-password-file too."],
    [{ etcdCert: import.meta.filename }, "Give --etcd-key too."],
  ])("half of it is a mistake: %j", async (options, remedy) => {
    await expect(locateEtcd({ store, ...options }, {})).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      remedy,
    });
  });

  test("a file that is not there is named", async () => {
    await expect(locateEtcd({ store, etcdCa: "/none/ca.pem" }, {})).rejects.toMatchObject({
      ...{ code: "CONFIG_INVALID", message: expect.stringContaining("/none/ca.pem") },
    });
  });
});
