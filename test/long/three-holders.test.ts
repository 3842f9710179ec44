import { join } from "node:path";
import { expect, test } from "vitest";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

/** K = 3 on real machines: two of the three that hold a version are killed at once, and no version is lost. */
const names = ["agent-1", "agent-2", "agent-3", "agent-4", "agent-5"];
const cluster = useTestCluster(names, { replicas: 3 });

const version = () => cluster.api().version("digits", 1);
const untilHeldBy = (count: number) =>
  expect.poll(async () => (await version()).holders.length, { timeout: 60_000 }).toBe(count);

async function holders(): Promise<string[]> {
  const held = (await version()).holders;
  const peers = await cluster.api().peers();
  return peers.filter(({ peerId }) => held.includes(peerId)).map(({ name }) => name);
}

test("any two machines die: the version is there, and held by three again", async () => {
  const { id } = await cluster
    .api()
    .submitJob(smallJob({ epochs: 1, workers: { min: 2, max: 2, spares: 0 } }));
  await cluster.untilJob(id, ({ state }) => state === "succeeded");
  await untilHeldBy(3);
  const { httpUrl } = cluster.processes.coordinator.ready;
  const { stdout } = await runRingfold(["models", "show", "digits@1"], {
    env: { RINGFOLD_COORDINATOR: httpUrl },
  });
  expect(stdout).toMatch(/^held by +3 of 3: \w{6} \w{6} \w{6}$/m);
  const [first, second, third] = await holders();
  for (const victims of [
    [first!, second!],
    [third!, first!],
  ]) {
    const lost = (await holders()).filter((name) => victims.includes(name)).length;
    const before = (await version()).holders.length;
    await Promise.all(victims.map((victim) => cluster.processes.agent(victim).kill()));
    await expect
      .poll(async () => (await holders()).filter((name) => victims.includes(name)), { timeout: 30_000 })
      .toEqual([]);
    expect(before - lost).toBeGreaterThanOrEqual(1);
    await untilHeldBy(3); // by all who are left
    const { weightsDigest } = await version();
    for (const name of await holders()) {
      const store = openArtefactStore(join(cluster.folder, name, "artefacts"));
      store.get(weightsDigest); // compares with the digest
      await store.close();
    }
    await Promise.all(victims.map((victim) => cluster.processes.startAgent(victim)));
    await expect
      .poll(async () => (await holders()).filter((name) => victims.includes(name)).length, {
        timeout: 30_000,
      })
      .toBe(2); // what they held lies on their disks
  }
}, 240_000);
