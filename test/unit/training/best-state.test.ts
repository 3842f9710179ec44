import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { trainedPart } from "../../../agent/training/fine-tuning.ts";
import { type JobSpec, jobSpecSchema } from "../../../protocol/job-spec.ts";
import { decodeSafetensors } from "../../../protocol/safetensors.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { memoryRings, openRank, type Rank, runAll, tinyData } from "../../fixtures/trainers.ts";

/** 5 steps an epoch, 30 in all. */
const data = tinyData(37);
const never = new AbortController().signal;
/** The learning rate grows from step to step: at first it helps, at the end it wrecks the model. */
const worsening = {
  ...{ batchSize: 8, epochs: 6, schedule: { kind: "constant", warmupSteps: 30 } },
  optimizer: { kind: "sgd", learningRate: 20, momentum: 0 },
  evaluation: { everySteps: 4, metric: "loss", minDelta: 0 },
  checkpoint: { everySteps: 200, keepLast: 1, keepBest: true },
} as const satisfies Partial<JobSpec>;

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

async function openWorld(worldSize: number, changes: Partial<JobSpec> = {}): Promise<Rank[]> {
  const ranks = await Promise.all(
    Array.from({ length: worldSize }, () => openRank({ engine, data, spec: { ...worsening, ...changes } })),
  );
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

async function settle(ranks: readonly Rank[]) {
  const rings = memoryRings(ranks.length);
  const all = await Promise.all(ranks.map(({ trainer }, rank) => trainer.settle(rings[rank]!, never)));
  for (const each of all) expect(each).toEqual(all[0]);
  return all[0]!;
}
const evaluationsOf = ({ reports }: Rank) => reports.flatMap(({ evaluation }) => evaluation ?? []);
const weightsOf = async ({ trainer }: Rank) =>
  decodeSafetensors(await trainer.encodeWeights()).tensors.flatMap(({ data: values }) => [...values]);

test.each([1, 3])(
  "a world of %i whose model gets worse at the end registers the best state",
  async (worldSize) => {
    const ranks = await openWorld(worldSize);
    await runAll(ranks);
    const best = evaluationsOf(ranks[0]!).reduce((a, b) => (b.loss < a.loss ? b : a));
    expect(best.step).toBeLessThan(28);
    const { point, evaluation, isBest } = await settle(ranks);
    expect({ isBest, point }).toEqual({
      isBest: true,
      point: { step: best.step, hash: ranks[0]!.hashes.get(best.step) },
    });
    expect(evaluation.loss).toBeCloseTo(best.loss, 5);
    expect(evaluation.loss).toBeLessThan((await lastLoss(ranks)) / 2);
    const [reference] = await openWorld(1);
    await Promise.all(
      ranks.map(async (rank) => expect(await weightsOf(rank)).toEqual(await weightsOf(ranks[0]!))),
    );
    reference!.trainer.state.parameters.set(await weightsOf(ranks[0]!));
    expect(reference!.trainer.point().hash).toBe(point.hash);
  },
);

async function lastLoss(ranks: readonly Rank[]): Promise<number> {
  const rings = memoryRings(ranks.length);
  const all = await Promise.all(ranks.map(({ trainer }, rank) => trainer.evaluate(rings[rank]!, never)));
  return all[0]!.loss;
}

test.each([3, 9, 17, 29])(
  "new processes that go on from a checkpoint of step %i settle on the same bits",
  async (step) => {
    const undisturbed = await openWorld(2);
    let checkpoint: Promise<Uint8Array> | undefined;
    undisturbed[0]!.onStep = (done) => {
      if (done === step) checkpoint = undisturbed[0]!.trainer.encodeState();
    };
    await runAll(undisturbed);
    const settled = await settle(undisturbed);
    const restarted = await openWorld(2);
    for (const { trainer } of restarted) await trainer.restoreState(await checkpoint!);
    await runAll(restarted);
    expect(await settle(restarted)).toEqual(settled);
  },
);

test("where the last state is the best, or nothing says which is, it is the last; and so it is without keepBest", async () => {
  const improving = { optimizer: { kind: "sgd", learningRate: 0.05, momentum: 0 } } as const;
  const plain = { checkpoint: { ...worsening.checkpoint, keepBest: false } };
  for (const changes of [improving, plain, { evaluation: { ...worsening.evaluation, everySteps: 100 } }]) {
    const ranks = await openWorld(2, changes);
    await runAll(ranks);
    const last = ranks[0]!.trainer.point();
    expect(await settle(ranks)).toMatchObject({ point: last, isBest: false });
    expect(await weightsOf(ranks[0]!)).toEqual([...ranks[0]!.trainer.state.parameters]);
  }
});

test("a broken ring after it was settled goes on from the last state, and settles again", async () => {
  const ranks = await openWorld(2);
  await runAll(ranks);
  const last = ranks[0]!.trainer.point();
  const settled = await settle(ranks);
  expect(await runAll(ranks)).toEqual(["done", "done"]);
  expect(ranks[0]!.trainer.point()).toEqual(last);
  expect(await settle(ranks)).toEqual(settled);
});

test("with frozen layers the version holds them beside the best of the others", async () => {
  const spec = { ...worsening, seed: 3 };
  const wrap = (model: TrainableModel) => trainedPart(model, [model.layout[0]!.name]);
  const rank = await openRank({ engine, data, spec, wrap });
  onTestFinished(() => rank.model.close());
  const frozen = new Float32Array(rank.model.description.parameterCount);
  await rank.model.readParameters(frozen);
  await runAll([rank]);
  const { parameters } = await rank.trainer.settle(memoryRings(1)[0]!, never);
  const { elementCount } = rank.model.layout[0]!;
  const weights = await weightsOf(rank);
  expect(weights).toEqual([...frozen.subarray(0, elementCount), ...parameters]);
});

test("a job that asks for it and evaluates nothing is refused", () => {
  const spec = { ...exampleSpec(), checkpoint: { keepBest: true } };
  expect(jobSpecSchema.safeParse(spec).error?.issues[0]?.message).toMatch(/^keepBest needs evaluation/);
});
