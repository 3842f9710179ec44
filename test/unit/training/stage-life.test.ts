import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import { layWeights, trainedPart } from "../../../agent/training/fine-tuning.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openStageRanks, runStages, settleStages } from "../../fixtures/stage-trainers.ts";
import { memoryRings, openRank, runAll, tinyData } from "../../fixtures/trainers.ts";

/** What a job may ask for beside the steps themselves; with one replica a stage all of it has the bits of one process. */
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "wasm" });
});
afterAll(() => engine.close());

const never = new AbortController().signal;
const data = tinyData(60);
const specOf = (changes: Partial<JobSpec>): JobSpec =>
  exampleSpec({
    model: { architecture: "mlp", hidden: [6, 5] },
    ...{ batchSize: 16, microBatchSize: 3, epochs: 3 },
    ...changes,
  });

/** One process that trains to the end, and what it ends with. */
async function trainWhole(spec: JobSpec, base?: Uint8Array) {
  const rank = await openRank({
    ...{ engine, data, spec },
    wrap: (model) => {
      if (base) {
        const parameters = new Float32Array(model.description.parameterCount);
        layWeights(base, spec, model, parameters);
        model.writeParameters(parameters);
      }
      return trainedPart(model, spec.freeze);
    },
  });
  onTestFinished(() => rank.model.close());
  await runAll([rank]);
  const settled = await rank.trainer.settle(memoryRings(1)[0]!, never);
  return { ...rank, settled, weights: await rank.trainer.encodeWeights() };
}

async function trainStages(replicaCount: number, spec: JobSpec, base?: Uint8Array) {
  const world = { engine, data, spec: { ...spec, stages: 2 }, ...(base ? { base } : {}) };
  const ranks = await openStageRanks(replicaCount, world);
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  for (const outcome of await runStages(ranks))
    expect(outcome).toEqual({ status: "fulfilled", value: "done" });
  const settled = await settleStages(ranks);
  const weights = await Promise.all(ranks.map(({ trainer }) => trainer.encodeWeights()));
  for (const each of weights) expect(each).toEqual(weights[0]);
  return { ranks, settled, weights: weights[0]! };
}

const stopping = { everySteps: 2, metric: "loss", minDelta: 0, patience: 2 } as const;
/** So large a step that the loss soon rises. */
const hasty = { kind: "sgd", learningRate: 4, momentum: 0 } as const;

test.each<{ what: string; changes: Partial<JobSpec>; stopsEarly: boolean }>([
  { what: "on the way", changes: { evaluation: { ...stopping, patience: 99 } }, stopsEarly: false },
  { what: "until it is no better", changes: { evaluation: stopping, optimizer: hasty }, stopsEarly: true },
  {
    what: "and the best is kept",
    changes: {
      ...{ evaluation: stopping, optimizer: hasty },
      checkpoint: { everySteps: 200, keepLast: 1, keepBest: true },
    },
    stopsEarly: true,
  },
])("the held-out set is evaluated $what, as one process does", async ({ changes, stopsEarly }) => {
  const spec = specOf(changes);
  const whole = await trainWhole(spec);
  const { ranks, settled, weights } = await trainStages(1, spec);
  const told = whole.reports.map(({ evaluation }) => evaluation);
  expect(told.filter((each) => each !== undefined).length).toBeGreaterThan(2);
  for (const { reports, trainer } of ranks) {
    expect(reports.map(({ evaluation }) => evaluation)).toEqual(told);
    expect(trainer.state.step).toBe(whole.trainer.state.step);
    expect(trainer.state.step < trainer.totalSteps).toBe(stopsEarly);
  }
  for (const { evaluation, isBest } of settled)
    expect({ evaluation, isBest }).toEqual({
      evaluation: whole.settled.evaluation,
      isBest: whole.settled.isBest,
    });
  expect(settled[0]!.isBest).toBe(spec.checkpoint.keepBest);
  expect(weights).toEqual(whole.weights);
});

test("two replicas of each stage share the held-out set and come to one answer", async () => {
  const { ranks } = await trainStages(2, specOf({ evaluation: stopping }));
  const told = ranks.map(({ reports }) => reports.map(({ evaluation }) => evaluation));
  expect(told[0]!.find((each) => each !== undefined)).toMatchObject({ examples: data.test.count });
  for (const each of told) expect(each).toEqual(told[0]);
});

test.each<{ what: string; changes: Partial<JobSpec> }>([
  { what: "some layers", changes: { freeze: ["dense_1"] } },
  { what: "all of the first stage", changes: { freeze: ["dense_1", "dense_2"] } },
  { what: "all of the last stage", changes: { freeze: ["dense_3"] } },
  { what: "the biases of all", changes: { freeze: ["*bias"] } },
])("$what frozen, from a version: the weights of one process", async ({ changes }) => {
  const { weights: base } = await trainWhole(specOf({ seed: 99, epochs: 1 }));
  const spec = specOf({ ...changes, from: "digits@1", epochs: 1 });
  const whole = await trainWhole(spec, base);
  expect(whole.weights).not.toEqual(base);
  const { ranks, weights } = await trainStages(1, spec, base);
  expect(weights).toEqual(whole.weights);
  const trained = ranks.reduce((sum, { trainer }) => sum + trainer.state.parameters.length, 0);
  expect(trained).toBe(whole.trainer.state.parameters.length);
});

test("nothing goes back to a stage that has nothing to learn", async () => {
  const backwardOf = async (freeze: string[]) => {
    const world = { engine, data, spec: { ...specOf({ freeze, epochs: 1 }), stages: 2 } };
    const ranks = await openStageRanks(1, world);
    const [first, last] = [ranks[0]!, ranks[1]!];
    const backward = vi.spyOn(first.model, "backward");
    for (const outcome of await runStages(ranks)) expect(outcome).toMatchObject({ value: "done" });
    for (const { model } of ranks) model.close();
    return { calls: backward.mock.calls.length, sentBack: last.ring.column.sentBytes };
  };
  const learning = await backwardOf(["*bias"]);
  const frozen = await backwardOf(["dense_1", "dense_2"]);
  expect(learning.calls).toBeGreaterThan(0);
  expect(frozen.calls).toBe(0);
  expect(frozen.sentBack).toBeLessThan(learning.sentBack);
});

test("a layer that is named nowhere is refused by every stage; one of another stage is none of its business", async () => {
  const open = (freeze: string[]) =>
    openStageRanks(1, { engine, data, spec: { ...specOf({ freeze }), stages: 2 } });
  await expect(open(["conv_9"])).rejects.toThrow("no layer is named conv_9");
  await expect(open(["*"])).rejects.toThrow("nothing to train");
  for (const { model } of await open(["dense_3"])) model.close();
});

test("where a version is begun with, the state before the first step is known at any time", async () => {
  const { weights: base } = await trainWhole(specOf({ seed: 99, epochs: 1 }));
  const spec = { ...specOf({ from: "digits@1", freeze: ["dense_1"] }), stages: 2 };
  const ranks = await openStageRanks(1, { engine, data, spec, base });
  const before = await Promise.all(ranks.map(({ trainer }) => trainer.encodeState()));
  await runStages(ranks);
  expect(ranks.map(({ trainer }) => trainer.encodeBeginning())).toEqual(before);
  for (const { model } of ranks) model.close();
});
