import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

/** Large enough a state that another thread brings it to the disk while the training goes on. */
const names = ["agent-1", "agent-2"];
const cluster = useTestCluster(names);

const job = () =>
  smallJob({
    model: { architecture: "mlp", hidden: [2_800] },
    workers: { min: 2, max: 2 },
    ...{ ringOrder: "as-joined", allReduce: "ring", batchSize: 32, epochs: 4 },
    data: { source: "mnist", trainExamples: 1_600, testExamples: 200 },
    checkpoint: { everySteps: 10, keepLast: 2 },
  });
const succeeded = ({ state }: JobView) => state === "succeeded";
const newest = ({ checkpoints }: JobView) => checkpoints.at(-1)?.step ?? 0;

test("killed while checkpoints are written beside the training, it comes to the same parameters, to the bit", async () => {
  const first = await cluster.api().submitJob(job());
  const undisturbed = await cluster.untilJob(first.id, succeeded);
  expect(newest(undisturbed)).toBe(undisturbed.progress!.step);
  const { id } = await cluster.api().submitJob(job());
  const reported = await cluster.untilJob(id, (view) => newest(view) >= 40);
  await Promise.all(names.map((name) => cluster.processes.agent(name).kill()));
  await Promise.all(names.map((name) => cluster.processes.startAgent(name)));
  const resumed = await cluster.untilJob(id, succeeded);
  expect(resumed.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(newest(reported));
  expect(resumed.checkpoints.at(-1)).toEqual(undisturbed.checkpoints.at(-1));
  expect(resumed.evaluation).toEqual(undisturbed.evaluation);
}, 120_000);
