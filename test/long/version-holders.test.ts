import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import type { VersionDetail } from "../../protocol/messages/api.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

/** Two agents hold each version (K = 2): whichever one is killed, none is lost. And what they hold can be verified anywhere. */
const names = ["agent-1", "agent-2", "agent-3"];
const cluster = useTestCluster(names);
beforeAll(async () => {
  const job = smallJob({ epochs: 1, workers: { min: 2, max: 2, spares: 0 } });
  for (let i = 0; i < 2; i++) {
    const { id } = await cluster.api().submitJob({ ...job, ...(i === 1 && { from: "digits@1" }) });
    await cluster.untilJob(id, ({ state }) => state === "succeeded");
  }
}, 120_000);

const version = (number: number): Promise<VersionDetail> => cluster.api().version("digits", number);
const ringfold = (...words: string[]) => {
  const { httpUrl, operatorToken } = cluster.processes.coordinator.ready;
  return runRingfold(words, {
    env: { RINGFOLD_COORDINATOR: httpUrl, RINGFOLD_OPERATOR_TOKEN: operatorToken },
  });
};

/** By name; the weights of both versions lie with each. */
async function holders(): Promise<string[]> {
  const peers = await cluster.api().peers();
  const each = await Promise.all([1, 2].map(async (number) => (await version(number)).holders));
  return peers
    .filter(({ peerId }) => each.every((held) => held.includes(peerId)))
    .map(({ name }) => name)
    .toSorted((a, b) => a.localeCompare(b));
}

test("both ranks have signed, and the lineage leads back to the data", async () => {
  const { signers, manifest } = await version(2);
  expect(new Set(signers)).toEqual(new Set(manifest.lineage.peers));
  const { stdout, exitCode } = await ringfold("versions", "lineage", "digits@2");
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^digits@2 .*signed by/);
  expect(stdout).toMatch(/made by job-2.*trained on mnist.*began with digits@1.*made by job-1/s);
});

test("an exported version is verified with nothing but its folder, and nothing that was altered passes", async () => {
  const folder = join(cluster.folder, "exported");
  const [holder] = await holders();
  const agent = join(cluster.folder, holder!);
  expect(await ringfold("models", "export", "digits@2", "--to", folder, "--agent", agent)).toMatchObject({
    exitCode: 0,
  });
  const verify = (path: string) =>
    runRingfold(["models", "verify", "--from", path, "--json"], {
      env: { RINGFOLD_COORDINATOR: "http://127.0.0.1:1" },
    });
  const good = await verify(folder);
  expect(JSON.parse(good.stdout)).toMatchObject({
    name: "digits",
    version: 2,
    verified: true,
    weightsRead: true,
  });
  const altered = async (file: string, change: (bytes: Buffer) => Buffer | string) => {
    const copy = join(cluster.folder, `altered-${file}`);
    await cp(folder, copy, { recursive: true });
    await writeFile(join(copy, file), change(await readFile(join(copy, file))));
    const { stdout, exitCode } = await verify(copy);
    return [(JSON.parse(stdout) as { error: { code: string } }).error.code, exitCode];
  };
  const flipped = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1)! ^ 1])]);
  expect(await altered("weights.safetensors", flipped)).toEqual(["ARTEFACT_CORRUPT", 74]);
  const better = (bytes: Buffer) => bytes.toString().replace(/"accuracy": [\d.]+/, '"accuracy": 0.9999');
  expect(await altered("version.json", better)).toEqual(["SIGNATURE_INVALID", 65]);
  const forged = (bytes: Buffer) => bytes.toString().replace(/"payload": "(.{20})./, '"payload": "$1A');
  expect(await altered("attestation.json", forged)).toEqual(["SIGNATURE_INVALID", 65]);
}, 60_000);

test("any K-1 machines die: no version is lost, and it is held K times again", async () => {
  const replicated = async (count: number) =>
    expect.poll(async () => (await holders()).length, { timeout: 60_000 }).toBeGreaterThanOrEqual(count);
  await replicated(2);
  for (const victim of (await holders()).slice(0, 2)) {
    await cluster.processes.agent(victim).kill();
    await expect.poll(holders, { timeout: 30_000 }).not.toContain(victim);
    await replicated(2);
    await cluster.processes.startAgent(victim);
    await expect.poll(async () => (await holders()).includes(victim), { timeout: 30_000 }).toBe(true);
  }
  for (const name of await holders()) {
    const store = openArtefactStore(join(cluster.folder, name, "artefacts"));
    for (const number of [1, 2]) store.get((await version(number)).weightsDigest); // compares with the digest
    await store.close();
  }
}, 150_000);
