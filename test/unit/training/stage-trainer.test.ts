import { afterAll, beforeAll, expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import type { StepReport } from "../../../agent/training/trainee.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { relativeError } from "../../contract/engines.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openStageRanks, runStages, type StageRank, settleStages } from "../../fixtures/stage-trainers.ts";
import { memoryRings, openRank, runAll, tinyData } from "../../fixtures/trainers.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "wasm" });
});
afterAll(() => engine.close());

const never = new AbortController().signal;
const data = tinyData(60);
const stages = 2;
const specOf = (changes: Partial<JobSpec>): JobSpec & { readonly stages: number } => ({
  ...exampleSpec({
    model: { architecture: "mlp", hidden: [6, 5] },
    optimizer: {
      kind: "adamw",
      learningRate: 0.02,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0.01,
    },
    schedule: { kind: "cosine", warmupSteps: 2, finalFraction: 0.1 },
    batchSize: 16,
    microBatchSize: 3,
    epochs: 2,
    ...changes,
  }),
  stages,
});

const openStages = (replicaCount: number, changes: Partial<JobSpec> = {}) =>
  openStageRanks(replicaCount, { engine, data, spec: specOf(changes) });
const parametersOf = (ranks: readonly StageRank[]) =>
  [0, 1].flatMap((stage) => {
    const { trainer } = ranks.find((rank) => rank.stage === stage)!;
    return [...trainer.state.parameters];
  });

test.each<{ what: string; replicas: number; changes: Partial<JobSpec>; tolerance: number }>([
  { what: "one replica", replicas: 1, changes: {}, tolerance: 0 },
  { what: "two replicas", replicas: 2, changes: {}, tolerance: 1e-4 },
  {
    what: "clipped by the norm of the whole model",
    replicas: 1,
    changes: { clipNorm: 0.05 },
    tolerance: 1e-5,
  },
  { what: "two replicas, clipped", replicas: 2, changes: { clipNorm: 0.05 }, tolerance: 1e-4 },
])("$what: two stages end where one process does", async ({ replicas, changes, tolerance }) => {
  const { stages: _, ...spec } = specOf(changes);
  const whole = await openRank({ engine, data, spec });
  await runAll([whole]);
  const evaluation = await whole.trainer.evaluate(memoryRings(1)[0]!, never);
  const weights = await whole.trainer.encodeWeights();
  whole.model.close();

  const ranks = await openStages(replicas, changes);
  for (const outcome of await runStages(ranks))
    expect(outcome).toEqual({ status: "fulfilled", value: "done" });
  expect(relativeError(parametersOf(ranks), whole.trainer.state.parameters)).toBeLessThanOrEqual(tolerance);
  const losses = ({ reports }: { readonly reports: readonly StepReport[] }) =>
    reports.map(({ loss }) => loss);
  for (const rank of ranks) {
    expect(relativeError(losses(rank), losses(whole))).toBeLessThanOrEqual(Math.max(tolerance, 1e-6));
    expect(rank.reports.map(({ examples }) => examples)).toEqual(
      whole.reports.map(({ examples }) => examples),
    );
  }
  const told = await settleStages(ranks);
  for (const each of told) {
    expect(each.evaluation).toEqual(told[0]!.evaluation);
    expect(each.evaluation.accuracy).toBe(evaluation.accuracy);
    expect(each.point).toEqual(told[0]!.point);
  }
  const versions = await Promise.all(ranks.map(({ trainer }) => trainer.encodeWeights()));
  for (const version of versions) expect(version).toEqual(versions[0]);
  if (tolerance === 0) expect(versions[0]).toEqual(weights);
  for (const { model } of ranks) model.close();
});

test("a pause stops all ranks after the same step, and what comes next goes on from there", async () => {
  const undisturbed = await openStages(1);
  await runStages(undisturbed);
  const ranks = await openStages(1);
  const runs = runStages(ranks);
  ranks[1]!.trainer.requestPause();
  for (const outcome of await runs) expect(outcome).toMatchObject({ value: "paused" });
  const [step] = new Set(ranks.map(({ trainer }) => trainer.state.step));
  expect(step).toBe(1);
  const states = await Promise.all(ranks.map(({ trainer }) => trainer.encodeState()));
  const resumed = await openStages(1);
  for (const [i, { trainer }] of resumed.entries()) await trainer.restoreState(states[i]!);
  await runStages(resumed);
  expect(parametersOf(resumed)).toEqual(parametersOf(undisturbed));
  for (const { model } of [...undisturbed, ...ranks, ...resumed]) model.close();
});

test("one rank that goes breaks the generation for all, with their state as after a whole step", async () => {
  const ranks = await openStages(2);
  const runs = runStages(ranks);
  ranks[3]!.ring.destroy();
  for (const outcome of await runs)
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
  for (const { trainer } of ranks) expect(trainer.state.step).toBe(0);
  for (const { model } of ranks) model.close();
});

test("numbers that are not finite end the job on every rank, which name the stage", async () => {
  const ranks = await openStages(1);
  const last = ranks[1]!;
  last.trainer.state.parameters.fill(Number.NaN);
  last.model.writeParameters(last.trainer.state.parameters);
  for (const outcome of await runStages(ranks)) {
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "NOT_FINITE", data: { step: 0 } } });
  }
  for (const { model } of ranks) model.close();
});

test("the state before the first step is known at any time", async () => {
  const ranks = await openStages(1);
  const before = await Promise.all(ranks.map(({ trainer }) => trainer.encodeState()));
  await runStages(ranks);
  expect(ranks.map(({ trainer }) => trainer.encodeBeginning())).toEqual(before);
  for (const { model } of ranks) model.close();
});
