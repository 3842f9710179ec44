import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2", "agent-3"];
const cluster = useTestCluster(names);

/** Three ranks in an order that does not depend on measured links, so that sums have the same bits whenever they are taken. */
const job = (changes: object = {}) =>
  smallJob({
    workers: { min: 3, max: 3 },
    ringOrder: "as-joined",
    allReduce: "ring",
    epochs: 15,
    ...changes,
  });
const succeeded = ({ state }: JobView) => state === "succeeded";
const stepOf = ({ progress }: JobView) => progress?.step ?? 0;
const lastCheckpoint = ({ checkpoints }: JobView) => checkpoints.at(-1)!;
let undisturbed: JobView;

test("a job that nothing disturbs, for comparison; its held-out set is evaluated on the way", async () => {
  const { id } = await cluster.api().submitJob(job({ evaluation: { everySteps: 400 } }));
  undisturbed = await cluster.untilJob(id, succeeded);
  expect(undisturbed.evaluations.map(({ step }) => step)).toEqual([400, 800, 1_200]);
  expect(undisturbed.evaluations.at(-1)!.loss).toBeLessThan(undisturbed.evaluations[0]!.loss);
}, 90_000);

test("after SIGKILL of every process the job ends with the same parameters, to the bit", async () => {
  const { id } = await cluster.api().submitJob(job({ checkpoint: { everySteps: 100, keepLast: 2 } }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 450);
  await Promise.all([
    cluster.processes.coordinator.kill(),
    ...names.map((name) => cluster.processes.agent(name).kill()),
  ]);
  await cluster.processes.startCoordinator();
  await Promise.all(names.map((name) => cluster.processes.startAgent(name)));
  const resumed = await cluster.untilJob(id, succeeded);
  expect(resumed.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(400);
  expect(lastCheckpoint(resumed)).toEqual(lastCheckpoint(undisturbed));
  expect(resumed.evaluation).toEqual(undisturbed.evaluation);
}, 120_000);

test("with keepBest a job that gets worse at its end registers its best state, over the death of every process", async () => {
  const { id } = await cluster.api().submitJob(
    job({
      ...{ name: "wrecked", optimizer: { kind: "sgd", learningRate: 20 } },
      schedule: { kind: "constant", warmupSteps: 1_500 },
      evaluation: { everySteps: 50 },
      checkpoint: { everySteps: 100, keepBest: true },
    }),
  );
  await cluster.untilJob(id, (view) => stepOf(view) >= 450);
  await Promise.all(names.map((name) => cluster.processes.agent(name).kill()));
  await Promise.all(names.map((name) => cluster.processes.startAgent(name)));
  const ended = await cluster.untilJob(id, succeeded);
  const best = ended.evaluations.reduce((a, b) => (b.loss < a.loss ? b : a));
  expect(ended.evaluations.at(-1)!.loss).toBeGreaterThan(1.5 * best.loss);
  expect(ended.evaluation!.loss).toBeCloseTo(best.loss, 4);
  expect(ended.reason).toContain(`the best state, after step ${best.step}`);
  const { manifest } = await cluster.api().version("wrecked", 1);
  expect(manifest.lineage.steps).toBe(best.step);
}, 120_000);

test("a pause frees the agents, outlives the coordinator, and costs no bit", async () => {
  const { id } = await cluster.api().submitJob(job());
  await cluster.untilJob(id, (view) => stepOf(view) >= 150);
  await cluster.api().steerJob(id, "pause", "for a smaller one");
  const paused = await cluster.untilJob(id, ({ state }) => state === "paused");
  expect(paused.reason).toMatch(/^paused by an operator: for a smaller one, at step \d+$/);
  expect(lastCheckpoint(paused).ranks).toBe(3);

  const small = await cluster.api().submitJob(job({ name: "small", epochs: 1 }));
  await cluster.untilJob(small.id, succeeded); // on the agents that are free now
  await cluster.processes.coordinator.kill();
  await cluster.processes.startCoordinator();
  await cluster.untilJob(id, ({ state }) => state === "paused");

  await cluster.api().steerJob(id, "resume", "");
  const ended = await cluster.untilJob(id, succeeded);
  expect(ended.generations.map(({ startStep }) => startStep)).toEqual([0, lastCheckpoint(paused).step]);
  expect(lastCheckpoint(ended)).toEqual(lastCheckpoint(undisturbed));
}, 120_000);

test("a cancelled job is tried again from its newest checkpoint", async () => {
  const { id } = await cluster.api().submitJob(job());
  await cluster.untilJob(id, ({ checkpoints }) => checkpoints.some(({ ranks }) => ranks === 3));
  await cluster.api().cancelJob(id);
  await cluster.api().steerJob(id, "retry", "");
  const ended = await cluster.untilJob(id, succeeded);
  expect(ended.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(100);
  expect(lastCheckpoint(ended)).toEqual(lastCheckpoint(undisturbed));
}, 120_000);
