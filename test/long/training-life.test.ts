import { join } from "node:path";
import { expect, test } from "vitest";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { decodeSafetensors } from "../../protocol/safetensors.ts";
import { writeDigits } from "../fixtures/digit-images.ts";
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
/** The digest of the version that a job has registered. */
async function weightsOf({ version }: JobView): Promise<string> {
  const [name, number] = version!.split("@");
  return (await cluster.api().version(name!, Number(number))).weightsDigest;
}
let undisturbed: JobView;

/** SIGKILL of every process at once; then the coordinator comes back, and these agents. */
async function killAll(back: readonly string[] = names): Promise<void> {
  await Promise.all([
    cluster.processes.coordinator.kill(),
    ...names.map((name) => cluster.processes.agent(name).kill()),
  ]);
  await cluster.processes.startCoordinator();
  await Promise.all(back.map((name) => cluster.processes.startAgent(name)));
}

test("a job that nothing disturbs, for comparison; its held-out set is evaluated on the way", async () => {
  const { id } = await cluster.api().submitJob(job({ evaluation: { everySteps: 400 } }));
  undisturbed = await cluster.untilJob(id, succeeded);
  expect(undisturbed.evaluations.map(({ step }) => step)).toEqual([400, 800, 1_200]);
  expect(undisturbed.evaluations.at(-1)!.loss).toBeLessThan(undisturbed.evaluations[0]!.loss);
}, 90_000);

test("after SIGKILL of every process the job ends with the same parameters, to the bit", async () => {
  const { id } = await cluster.api().submitJob(job({ checkpoint: { everySteps: 100, keepLast: 2 } }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 450);
  await killAll();
  const resumed = await cluster.untilJob(id, succeeded);
  expect(resumed.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(400);
  expect(lastCheckpoint(resumed)).toEqual(lastCheckpoint(undisturbed));
  expect(resumed.evaluation).toEqual(undisturbed.evaluation);
}, 120_000);

test("three agents train, all are killed, two come back: their parameters are those of three, up to the order of sums", async () => {
  const { id } = await cluster
    .api()
    .submitJob(job({ workers: { min: 2, max: 3 }, checkpoint: { everySteps: 100 } }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 450);
  await killAll(["agent-1", "agent-2"]);
  const resumed = await cluster.untilJob(id, succeeded);
  await cluster.processes.startAgent("agent-3");
  const last = resumed.generations.at(-1)!;
  expect([resumed.generations[0]!.ranks.length, last.ranks.length]).toEqual([3, 2]);
  expect(last.startStep).toBeGreaterThanOrEqual(400);
  const [two, three] = [await parametersOf(resumed), await parametersOf(undisturbed)];
  const difference = length(two.map((value, i) => value - three[i]!)) / length(three);
  expect(difference).toBeLessThan(1e-4);
}, 120_000);

const length = (vector: Float32Array) => Math.hypot(...vector);

/** Of the version that a job has registered, all tensors in order. */
async function parametersOf(job: JobView): Promise<Float32Array> {
  const weightsDigest = await weightsOf(job);
  const store = openArtefactStore(join(cluster.folder, "agent-1", "artefacts"));
  try {
    const { tensors } = decodeSafetensors(store.get(weightsDigest));
    return Float32Array.from(tensors.flatMap(({ data }) => [...data]));
  } finally {
    await store.close();
  }
}

const layer = (class_name: string, config: object) => ({ class_name, config });
const noisy = {
  ...{ name: "noisy", epochs: 4, batchSize: 60 },
  model: {
    architecture: "layers",
    topology: layer("Sequential", {
      name: "noisy",
      layers: [
        layer("Conv2D", {
          name: "filters",
          filters: 8,
          kernel_size: [3, 3],
          batch_input_shape: [null, 28, 28, 1],
        }),
        layer("BatchNormalization", { name: "norm" }),
        layer("ReLU", { name: "relu" }),
        layer("MaxPooling2D", { name: "pool", pool_size: [2, 2] }),
        layer("Flatten", { name: "flat" }),
        layer("Dropout", { name: "dropout", rate: 0.4 }),
        layer("Dense", { name: "scores", units: 10, activation: "softmax" }),
      ],
    }),
  },
  data: { source: "dataset", name: "digits@1" },
  augment: { flip: "horizontal", shift: 2, crop: 2, noise: 0.1 },
};

test("augmentation, dropout, batch normalisation and chunks that were fetched cost no bit over the death of every process", async () => {
  const folder = join(cluster.folder, "digits");
  await writeDigits(folder, { train: 1_800, test: 400 });
  await cluster.ringfold("data", "add", folder, "--agent", join(cluster.folder, "agent-1"));
  const reference = await cluster.untilJob((await cluster.api().submitJob(job(noisy))).id, succeeded);
  const { id } = await cluster
    .api()
    .submitJob(job({ ...noisy, checkpoint: { everySteps: 25, keepLast: 2 } }));
  await cluster.untilJob(id, (view) => stepOf(view) >= 70);
  await killAll();
  const resumed = await cluster.untilJob(id, succeeded);
  expect(resumed.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(50);
  // Weights, and not checkpoints: of one that was written as all died the coordinator has only heard that it lies on disks.
  expect(await weightsOf(resumed)).toBe(await weightsOf(reference));
  expect(resumed.evaluation).toEqual(reference.evaluation);
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
