import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

/** The rest of the life of a job with stages, on two agents that may not hold the model of the first test by themselves. */
const names = ["agent-1", "agent-2"];
const cluster = useTestCluster(names, { memoryLimitMb: 330 });

const model = { architecture: "cnn", filters: [8], hidden: [32] };
const job = (changes: object = {}) =>
  smallJob({
    ...{ model, stages: 2, workers: { min: 2, max: 2 }, microBatchSize: 16 },
    data: { source: "mnist", trainExamples: 3_200, testExamples: 500 },
    ...{ epochs: 4, checkpoint: { everySteps: 20, keepLast: 2 } },
    ...changes,
  });
const ended = ({ state }: JobView) => state === "succeeded" || state === "failed";
const stepOf = ({ progress }: JobView) => progress?.step ?? 0;
const weightsOf = async (name: string) =>
  (await cluster.until((view) => view.versions.find((version) => version.name === name))).weightsDigest;

test("stages: auto takes as many as the agents' memory asks for, and says why", async () => {
  const large = { architecture: "mlp", hidden: [1_024, 1_024, 1_024] };
  const data = { source: "mnist", trainExamples: 320, testExamples: 100 };
  const changes = { model: large, data, stages: "auto", microBatchSize: 8, epochs: 1 };
  const { id } = await cluster
    .api()
    .submitJob(job({ ...changes, name: "large", workers: { min: 1, max: 2 } }));
  const done = await cluster.untilJob(id, ended);
  expect(done.state).toBe("succeeded");
  expect(done.spec.stages).toBe(2);
  expect(done.generations[0]!.reason).toMatch(
    /^2 stages of which the largest takes 0\.\d\d GB, as the workers have 0\.33 GB each/,
  );
}, 90_000);

test("where the whole model fits, auto is ordinary training", async () => {
  const { id } = await cluster
    .api()
    .submitJob(job({ name: "small", stages: "auto", workers: { min: 1, max: 2 }, epochs: 1 }));
  const done = await cluster.untilJob(id, ended);
  expect(done).toMatchObject({ state: "succeeded" });
  expect(done.spec.stages).toBeUndefined();
  expect(done.generations[0]!.reason).toMatch(/^one stage, as the workers have 0\.33 GB each/);
}, 90_000);

const tuned = { from: "small@1", freeze: ["conv2d_1"], evaluation: { everySteps: 50 } };

test("a version is fine-tuned in stages with a frozen layer, evaluated on the way", async () => {
  const { id } = await cluster.api().submitJob(job({ ...tuned, name: "tuned" }));
  const done = await cluster.untilJob(id, ended);
  expect(done.state).toBe("succeeded");
  expect(done.evaluations.map(({ step }) => step)).toEqual([50, 100, 150]);
  expect(done.evaluation!.accuracy!).toBeGreaterThan(0.8);
}, 90_000);

test("after SIGKILL of every process it comes to the same weights, to the bit", async () => {
  const { id } = await cluster.api().submitJob(job({ ...tuned, name: "killed" }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 70);
  await Promise.all([
    cluster.processes.coordinator.kill(),
    ...names.map((name) => cluster.processes.agent(name).kill()),
  ]);
  await cluster.processes.startCoordinator();
  await Promise.all(names.map((name) => cluster.processes.startAgent(name)));
  const done = await cluster.untilJob(id, ended);
  expect(done.state).toBe("succeeded");
  expect(done.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(60);
  expect(await weightsOf("killed")).toBe(await weightsOf("tuned"));
}, 120_000);

test("a pause frees the agents and costs no bit; a cancelled job is over", async () => {
  const { id } = await cluster.api().submitJob(job({ ...tuned, name: "rested" }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 70);
  await cluster.api().steerJob(id, "pause", "for a smaller one");
  const paused = await cluster.untilJob(id, ({ state }) => state === "paused");
  expect(paused.reason).toMatch(/at step \d+$/);
  const other = await cluster.api().submitJob(job({ name: "cancelled" }));
  await cluster.untilJob(other.id, (view) => stepOf(view) >= 5);
  await cluster.api().cancelJob(other.id);
  await cluster.untilJob(other.id, ({ state }) => state === "cancelled");
  await cluster.api().steerJob(id, "resume", "");
  expect(await cluster.untilJob(id, ended)).toMatchObject({ state: "succeeded" });
  expect(await weightsOf("rested")).toBe(await weightsOf("tuned"));
}, 120_000);

test("halving over trials in stages: the best goes on from where it paused", async () => {
  const { name: _, ...spec } = job({ epochs: 2 });
  const space = { "optimizer.learningRate": { values: [1e-6, 0.003] } };
  const search = { method: "halving", trials: 2, reduction: 2, minEpochs: 1, space };
  const { id } = await cluster.api().submitSweep(sweepSpecSchema.parse({ ...spec, name: "swept", search }));
  await cluster.until(({ sweeps }) => sweeps.find((sweep) => sweep.id === id && sweep.state !== "running"));
  const sweep = await cluster.api().sweep(id);
  expect(new Set(sweep.trials.map(({ state }) => state))).toEqual(new Set(["stopped", "succeeded"]));
  const best = await cluster.api().job(sweep.trials[sweep.best!.number - 1]!.jobId!);
  expect(best.state).toBe("succeeded");
  expect(best.generations.map(({ startStep }) => startStep)).toEqual([0, 50]);
}, 120_000);
