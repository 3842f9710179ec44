import { join } from "node:path";
import { expect, test } from "vitest";
import { backUp, restore } from "../../scripts/run/backup.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { silentLog } from "../fixtures/silent-log.ts";

const names = ["agent-1", "agent-2", "agent-3"];
const cluster = useTestCluster(names);

test("a coordinator restored from an old backup is followed by agents that have seen later ones, and its job goes on where it was", async () => {
  const { processes, folder } = cluster;
  const data = join(folder, "coordinator");
  const copy = join(folder, "backup");
  const spec = smallJob({ workers: { min: 2, max: 3 }, epochs: 60, checkpoint: { everySteps: 1_000 } });
  const { id } = await cluster.api().submitJob(spec);
  await cluster.untilJob(id, ({ progress }) => (progress?.step ?? 0) >= 100);
  await backUp(data, copy);
  // The cluster goes on: later terms, and later generations.
  await processes.coordinator.kill();
  await processes.startCoordinator();
  await processes.agent("agent-3").kill();
  await cluster.untilJob(id, ({ generationCount, state }) => state === "running" && generationCount >= 2);
  await processes.startAgent("agent-3");
  const before = await cluster.untilJob(
    id,
    ({ generationCount, progress }) => generationCount >= 3 && (progress?.step ?? 0) >= 1_100,
  );
  await processes.coordinator.kill();
  await restore(copy, data, { force: true, nowMs: Date.now(), log: silentLog });
  await processes.startCoordinator();
  const after = await cluster.untilJob(
    id,
    ({ generations, state }) => state === "running" && generations.at(-1)!.generation > 1_000_000,
  );
  // Nothing that a living agent had was lost.
  expect(after.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(before.progress!.step);
  expect((await cluster.untilJob(id, ({ state }) => state === "succeeded")).version).toBe("digits@1");
}, 180_000);
