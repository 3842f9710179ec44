import type { Target } from "../../protocol/data-schema.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation } from "../../protocol/messages/job.ts";
import type { BatchBuffer, ExampleSet } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingPort } from "../ring/port.ts";
import type { DataAhead } from "./data-ahead.ts";
import { rankedArea } from "./ranked-area.ts";
import { type Place, shareOf } from "./sampler.ts";

/** Sums over held-out examples, as they travel: f32, exact for counts below 2^24. */
const sums = { lossSum: 0, correctCount: 1, targetCount: 2, exampleCount: 3, length: 4 } as const;

/** What is evaluated, and on what. */
export interface HeldOut {
  readonly model: Pick<TrainableModel, "evaluate">;
  readonly set: ExampleSet;
  readonly target: Target;
  readonly batch: BatchBuffer;
  /** Examples between two turns of the event loop. */
  readonly batchSize: number;
  readonly nextTurn: () => Promise<void>;
  /** Where the set comes from peers. */
  readonly ahead: Pick<DataAhead, "turnToHeldOut" | "arriveHeldOut">;
}

/** One rank's share of the held-out set. */
export interface EvaluatedShare {
  /** f32 [4]; added up over the ranks they are an evaluation. */
  readonly totals: Float32Array;
  /** Of each example where the target is binary, else empty. */
  readonly scores: Float32Array;
  readonly labels: Float32Array;
}

/**
 * @param at.watch throws where the ring is no more: nobody else would notice between two steps
 * @throws RingfoldError CANCELLED | ARTEFACT_MISSING; what `watch` throws
 */
export async function evaluateLocally(
  of: HeldOut,
  { place, watch }: { readonly place: Place; readonly watch: () => void },
  signal: AbortSignal,
): Promise<EvaluatedShare> {
  const { model, set, target, batch, batchSize, nextTurn, ahead } = of;
  const { start, end } = shareOf(set.count, place);
  ahead.turnToHeldOut(place);
  const totals = new Float32Array(sums.length);
  const isRanked = target.kind === "binary";
  const scores = new Float32Array(isRanked ? end - start : 0);
  const labels = new Float32Array(scores.length);
  for (let from = start; from < end; from += batchSize) {
    if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
    watch();
    const range = { start: from, end: Math.min(from + batchSize, end) };
    if (set.chunks) await ahead.arriveHeldOut(range, watch, signal);
    const indices = Uint32Array.from({ length: range.end - from }, (_, i) => from + i);
    const examples = await batch.gather(set, indices, signal);
    const result = await model.evaluate(examples);
    totals[sums.lossSum]! += result.lossSum;
    totals[sums.correctCount]! += result.correctCount;
    totals[sums.targetCount]! += result.targetCount;
    totals[sums.exampleCount]! += indices.length;
    if (isRanked) {
      scores.set(result.scores!, from - start);
      labels.set(examples.targets.subarray(0, indices.length), from - start);
    }
    await nextTurn();
  }
  return { totals, scores, labels };
}

/**
 * @param totals as a rank has them of its share, over all ranks
 * @param area under the ROC curve, which is no sum; where it is known
 */
export function evaluationOf(totals: Float32Array, target: Target, area?: number): Evaluation {
  const targets = totals[sums.targetCount]!;
  const loss = totals[sums.lossSum]! / targets;
  return {
    examples: totals[sums.exampleCount]!,
    loss,
    accuracy: target.kind === "number" ? null : totals[sums.correctCount]! / targets,
    metrics: metricsOf(target, loss, area),
  };
}

/**
 * Evaluates the held-out set, each rank its share; all ranks get the same answer. Where the target is binary, scores and
 * labels of all examples travel too: 8 bytes an example.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED | ARTEFACT_MISSING
 */
export async function evaluateShare(ring: RingPort, of: HeldOut, signal: AbortSignal): Promise<Evaluation> {
  const watch = () => ring.throwIfBroken();
  const { totals, scores, labels } = await evaluateLocally(of, { place: ring, watch }, signal);
  // Steps say nothing of how long the others' shares take.
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  await ring.allReduce(totals, signal);
  const area =
    of.target.kind === "binary" ? await areaOver(ring, { scores, labels }, of.set.count, signal) : undefined;
  return evaluationOf(totals, of.target, area);
}

function metricsOf(target: Target, loss: number, area: number | undefined): Evaluation["metrics"] {
  switch (target.kind) {
    case "class":
      return {};
    case "tokens":
      return { perplexity: Math.exp(loss) };
    case "binary":
      return area === undefined ? {} : { auc: area };
    case "number":
      return { rmse: Math.sqrt(loss) };
  }
}

/**
 * Of the examples of all ranks: an area is no mean of areas. Every rank comes to the same bits.
 * @param own of those that this rank has evaluated, of `exampleCount` in all
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
 */
export async function areaOver(
  ring: RingPort,
  own: Pick<EvaluatedShare, "scores" | "labels">,
  exampleCount: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const told = new Float32Array(2 * own.scores.length);
  told.set(own.scores);
  told.set(own.labels, own.scores.length);
  const bytes = new Uint8Array(told.buffer);
  const payloads = await ring.allGather(bytes, signal, { payloadBytesMax: 8 * exampleCount });
  // Copied: a payload may lie where no f32 may begin.
  const shares = payloads.map((bytes) => new Float32Array(Uint8Array.from(bytes).buffer));
  const scores = new Float32Array(exampleCount);
  const labels = new Float32Array(exampleCount).fill(-1);
  let start = 0;
  for (const share of shares) {
    const count = share.length / 2;
    scores.set(share.subarray(0, count), start);
    labels.set(share.subarray(count), start);
    start += count;
  }
  return rankedArea(scores, labels);
}
