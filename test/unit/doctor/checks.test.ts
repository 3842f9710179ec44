import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { loadPeerId } from "../../../agent/network/identity.ts";
import { release } from "../../../agent/release.ts";
import { readChosenPython, saveChosenPython } from "../../../agent/torch/chosen-python.ts";
import { createApiClient } from "../../../scripts/commands/api-client.ts";
import {
  clusterChecks,
  judgeClock,
  judgeIdentity,
  judgeReleases,
} from "../../../scripts/doctor/cluster-checks.ts";
import { computeChecks } from "../../../scripts/doctor/compute-checks.ts";
import { type Check, ok, runChecks } from "../../../scripts/doctor/finding.ts";
import { judgeDisk, judgeMemory, judgeNode, machineChecks } from "../../../scripts/doctor/machine-checks.ts";
import { judgeNat } from "../../../scripts/doctor/nat-check.ts";
import { judgeAddresses, networkChecks } from "../../../scripts/doctor/network-checks.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { type CoordinatorServer, startCoordinatorServer } from "../cli/coordinator-server.ts";
import { clusterView, peerView } from "../cli/views.ts";

const never = new AbortController().signal;
const scriptsOf = (dataPath: string) => join(dataPath, "scripts");
const anywhere = { host: "127.0.0.1", port: 0 };
const look = (checks: readonly Check[], name: string) => {
  const found = checks.find((check) => check.name === name);
  if (!found) throw new Error(`there is no check ${name}`);
  return runChecks([found], { signal: never, deadlineMs: 20_000, onFinding: () => {} }).then(
    ([finding]) => finding!,
  );
};

describe("the Python that runs scripts", () => {
  /** Says what a Python with torch would, or fails as one without. */
  function python(folder: string, says: string): string {
    const path = join(folder, "some-python");
    writeFileSync(path, `#!/bin/sh\n${says}\n`, { mode: 0o755 });
    return path;
  }

  test("is the one that this machine's agent was started with", async () => {
    const dataPath = temporaryFolder();
    const path = python(dataPath, "echo PyTorch 2.9 on no CUDA device");
    await saveChosenPython(scriptsOf(dataPath), path);
    expect(await look(computeChecks({ dataPath }), "engine torch")).toMatchObject({
      verdict: "ok",
      detail: `PyTorch 2.9 on no CUDA device (${path}, of this machine's agent)`,
    });
    await saveChosenPython(scriptsOf(dataPath), undefined); // started again, without --allow-torch
    expect(await readChosenPython(scriptsOf(dataPath))).toBeUndefined();
  });

  test("is a warning where it has no torch, or is not there", async () => {
    const dataPath = temporaryFolder();
    const path = python(dataPath, "exit 1");
    const lacking = await look(computeChecks({ dataPath, python: path }), "engine torch");
    expect(lacking).toMatchObject({ verdict: "warn", detail: `${path} cannot import torch` });
    expect(lacking.remedy).toContain("ringfold agent --python PATH");
    await saveChosenPython(scriptsOf(dataPath), join(dataPath, "none"));
    expect(await look(computeChecks({ dataPath }), "engine torch")).toMatchObject({
      verdict: "warn",
      detail: `there is no ${join(dataPath, "none")}, of this machine's agent`,
    });
  });
});

describe("this machine", () => {
  test.each([
    ["v20.20.2", "fail"],
    ["v22.11.0", "fail"],
    ["v22.12.0", "ok"],
    ["v24.1.0", "ok"],
  ])("Node %s is %s", (version, verdict) => expect(judgeNode(version, ">=22.12").verdict).toBe(verdict));

  test("little memory is a warning", () => {
    expect([judgeMemory(5e8).verdict, judgeMemory(8e9).verdict]).toEqual(["warn", "ok"]);
  });

  test("a disk that is nearly full warns, and a full one fails", () => {
    expect([1e8, 1e9, 1e10].map((free) => judgeDisk(free, "/data").verdict)).toEqual(["fail", "warn", "ok"]);
  });

  test("a folder that is not there yet is looked at where it will be", async () => {
    const folder = temporaryFolder();
    const finding = await look(machineChecks(join(folder, "not", "yet")), "disk");
    expect(finding.detail).toContain(`at ${folder}`);
  });

  test("a folder that cannot be written is a failure that names it", async () => {
    const finding = await look(machineChecks("/proc/self"), "disk");
    expect(finding).toMatchObject({
      verdict: "fail",
      detail: expect.stringContaining("cannot write to /proc/self"),
    });
  });
});

describe("its network", () => {
  const v4 = { link: "eth0", family: "IPv4", address: "10.0.0.7" } as const;
  const v6 = { link: "eth0", family: "IPv6", address: "2001:db8::7" } as const;
  test.each([
    ["IPv4 alone", [v4], "ok"],
    ["both", [v4, v6], "ok"],
    ["IPv6 alone", [v6], "fail"],
    ["neither", [], "warn"],
  ])("%s", (_what, addresses, verdict) => expect(judgeAddresses(addresses)[0]!.verdict).toBe(verdict));

  test("a port that another program holds is named", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as AddressInfo;
    const finding = await look(
      networkChecks({ listen: anywhere, gateway: { host: "127.0.0.1", port } }),
      "port of gateway",
    );
    holder.close();
    expect(finding).toMatchObject({ verdict: "warn", detail: `127.0.0.1:${port} is in use` });
  });

  test("an address of another machine cannot be listened on", async () => {
    const finding = await look(
      networkChecks({ listen: { host: "192.0.2.77", port: 0 }, gateway: anywhere }),
      "port of members",
    );
    expect(finding).toMatchObject({ verdict: "fail", detail: expect.stringContaining("EADDRNOTAVAIL") });
  });
});

describe("what is judged of the cluster", () => {
  test.each([
    [3, 5, "ok"],
    [2_100, 5, "warn"],
    [-59_000, 5, "warn"],
    [-3_600_000, 5, "fail"],
    // A slow answer says little of the clock.
    [3_000, 4_000, "ok"],
  ])("a clock %i ms ahead, known to %i ms, is %s", (skewMs, uncertaintyMs, verdict) =>
    expect(judgeClock(skewMs, uncertaintyMs).verdict).toBe(verdict),
  );

  test("releases: another minor one is a warning, another major one a failure, and the dead do not count", () => {
    const peer = (theirs: string, state: "alive" | "dead" = "alive") => peerView({ release: theirs, state });
    expect(judgeReleases("0.1.0", "0.1.0", [peer("0.1.0")]).verdict).toBe("ok");
    expect(judgeReleases("0.1.0", "0.2.0", []).verdict).toBe("warn");
    expect(judgeReleases("0.1.0", "0.1.0", [peer("1.0.0")]).verdict).toBe("fail");
    expect(judgeReleases("0.1.0", "0.1.0", [peer("1.0.0", "dead")]).verdict).toBe("ok");
  });

  test("an identity that another machine uses is a copied folder", () => {
    const peer = peerView({ addresses: ["/ip4/10.0.0.7/tcp/4001"] });
    const { peerId, capabilities } = peer;
    const self = { peerId, hostname: capabilities.hostname, hosts: ["10.0.0.7"] };
    expect(judgeIdentity(self, [peer]).verdict).toBe("ok");
    expect(judgeIdentity({ ...self, hosts: ["10.0.0.8"] }, [peer]).verdict).toBe("fail");
    expect(judgeIdentity({ ...self, hostname: "another" }, [peer]).verdict).toBe("fail");
    const elsewhere = { ...self, hosts: ["10.0.0.8"] };
    expect(judgeIdentity(elsewhere, [{ ...peer, state: "draining" }]).verdict).toBe("fail");
    expect(judgeIdentity(elsewhere, [{ ...peer, state: "dead" }]).verdict).toBe("ok");
  });

  test("an address translation is seen by what it changes", () => {
    const local = { host: "10.0.0.7", port: 40_000 };
    const by = (port: number, host = "11.0.0.1") => ({ by: `somebody at ${port}`, seen: { host, port } });
    const here = { by: "the coordinator", seen: local };
    expect(judgeNat(local, [here, here]).verdict).toBe("ok");
    expect(judgeNat(local, [by(40_000)]).detail).toContain("keeps ports");
    expect(judgeNat(local, [by(1_025)]).detail).toContain("changes ports");
    expect(judgeNat(local, [by(1_025), by(1_025)]).detail).toContain("endpoint-independent mapping (a cone)");
    const symmetric = judgeNat(local, [by(1_025), by(1_025), by(1_026)]);
    expect(symmetric).toMatchObject({
      verdict: "warn",
      remedy: expect.stringContaining("Hole punching does not"),
    });
    expect(symmetric.detail).toContain("(symmetric)");
    expect(judgeNat(local, [by(1_025), by(1_025, "11.0.0.2")]).detail).toContain("(symmetric)");
  });
});

describe("asking the coordinator", () => {
  let server: CoordinatorServer | undefined;
  afterEach(() => server?.[Symbol.asyncDispose]());

  const checksAgainst = async (
    observed: object,
    { dataPath = "/nonexistent", operatorToken = "token" } = {},
  ) => {
    server = await startCoordinatorServer();
    const answer = { address: "127.0.0.1", port: 1, nowMs: Date.now(), addresses: [], ...observed };
    server.routes.set("GET /api/observed", () => ({ body: answer }));
    const api = createApiClient({ baseUrl: server.url, operatorToken, signal: never });
    return clusterChecks({ api, signal: never, dataPath, listen: anywhere });
  };

  test("a clock an hour off is a failure", async () => {
    const finding = await look(await checksAgainst({ nowMs: Date.now() - 3_600_000 }), "clock");
    expect(finding).toMatchObject({ verdict: "fail", detail: expect.stringMatching(/^1h00m ahead/) });
  });

  test("a coordinator of another release is told by the release", async () => {
    const checks = await checksAgainst({});
    server!.routes.set("GET /api/cluster", () => ({
      body: { ...clusterView(), release: "7.0.0", peers: [] },
    }));
    expect(await look(checks, "release")).toMatchObject({
      verdict: "fail",
      detail: `${release} here, but 7.0.0 (the coordinator)`,
    });
  });

  test("a copied identity is told by its peer id; a machine without one makes none", async () => {
    const dataPath = temporaryFolder();
    const checks = await checksAgainst({}, { dataPath });
    expect((await look(checks, "identity")).verdict).toBe("info");
    const peerId = await loadPeerId(join(dataPath, "identity.key"));
    server!.routes.set("GET /api/peers", () => ({ body: [peerView({ peerId })] }));
    expect(await look(checks, "identity")).toMatchObject({
      verdict: "fail",
      detail: expect.stringContaining("has the identity of this machine"),
    });
  });

  test("a damaged identity is a failure with its remedy", async () => {
    const dataPath = temporaryFolder();
    mkdirSync(dataPath, { recursive: true });
    writeFileSync(join(dataPath, "identity.key"), "no key");
    expect(await look(await checksAgainst({}, { dataPath }), "identity")).toMatchObject({
      verdict: "fail",
      remedy: expect.stringContaining("Restore the file"),
    });
  });

  test("a member port that does not answer is a failure", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const { port } = closed.address() as AddressInfo;
    closed.close();
    const finding = await look(
      await checksAgainst({ addresses: [`/ip4/127.0.0.1/tcp/${port}/p2p/x`] }),
      "relay",
    );
    expect(finding).toMatchObject({ verdict: "fail", detail: expect.stringContaining(`127.0.0.1:${port}`) });
  });

  test("no coordinator, and something else at its address", async () => {
    const api = createApiClient({ baseUrl: "http://127.0.0.1:2", signal: never });
    const checks = clusterChecks({ api, signal: never, dataPath: "/nonexistent", listen: anywhere });
    expect(await look(checks, "coordinator")).toMatchObject({
      verdict: "fail",
      detail: expect.stringContaining("ECONNREFUSED"),
    });
    const strange = await checksAgainst({ nowMs: "noon" });
    expect((await look(strange, "coordinator")).detail).toContain("does not answer as this release expects");
  });
});

test.each([
  ["hears of its deadline", (signal: AbortSignal) => signal],
  ["does not heed it", () => new AbortController().signal],
])("a check that hangs and %s ends then, and those after it are made", async (_what, heeded) => {
  const hangs: Check = {
    name: "hangs",
    look: (given) =>
      new Promise((_, reject) => {
        const signal = heeded(given);
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
  };
  const findings = await runChecks([hangs, { name: "next", look: async () => ok("fine") }], {
    signal: never,
    deadlineMs: 10,
    onFinding: () => {},
  });
  expect(findings).toMatchObject([{ verdict: "fail", detail: "no answer in time" }, { verdict: "ok" }]);
});
