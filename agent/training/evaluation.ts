import { type Target, targetLength } from "../../protocol/data-schema.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { perplexityOf } from "../../protocol/metric.ts";
import type { BatchBuffer, ExampleSet } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingPort } from "../ring/port.ts";
import type { DataAhead } from "./data-ahead.ts";
import type { Asked } from "./metrics/asked.ts";
import { type Figures, figuresOf } from "./metrics/figures.ts";
import { rankedArea } from "./metrics/ranked-area.ts";
import { lengthOf, mergeTallies, Tally } from "./metrics/tally.ts";
import { type Place, shareOf } from "./sampler.ts";
import { divisorOf, heldOutSums as sums } from "./synchronization/exchange.ts";

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
  /** f32, as `heldOutSums` has them; added up over the ranks they are an evaluation. */
  readonly totals: Float32Array;
  /** Of each example, where an area is asked for, else empty. */
  readonly scores: Float32Array;
  readonly labels: Float32Array;
  /** Where metrics are asked for that the totals do not tell. */
  readonly tally: Tally | undefined;
}

/**
 * @param at.watch throws where the ring is no more: nobody else would notice between two steps
 * @throws RingfoldError CANCELLED | ARTEFACT_MISSING; what `watch` throws
 */
export async function evaluateLocally(
  of: HeldOut,
  { place, asked, watch }: { readonly place: Place; readonly asked: Asked; readonly watch: () => void },
  signal: AbortSignal,
): Promise<EvaluatedShare> {
  const { model, set, batch, batchSize, nextTurn, ahead } = of;
  const { start, end } = shareOf(set.count, place);
  ahead.turnToHeldOut(place);
  const totals = new Float32Array(sums.length);
  const scores = new Float32Array(asked.area ? end - start : 0);
  const labels = new Float32Array(scores.length);
  const tally = asked.plan && new Tally(asked.plan);
  for (let from = start; from < end; from += batchSize) {
    if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
    watch();
    const range = { start: from, end: Math.min(from + batchSize, end) };
    if (set.chunks) await ahead.arriveHeldOut(range, watch, signal);
    const indices = Uint32Array.from({ length: range.end - from }, (_, i) => from + i);
    const examples = await batch.gather(set, indices, signal);
    const result = await model.evaluate(examples, tally !== undefined);
    totals[sums.lossSum]! += result.lossSum;
    totals[sums.correctCount]! += result.correctCount;
    totals[sums.targetCount]! += result.targetCount;
    totals[sums.exampleCount]! += indices.length;
    totals[sums.lossWeight]! += result.lossWeight;
    totals[sums.plainLossSum]! += result.plainLossSum ?? result.lossSum;
    const targets = examples.targets.subarray(0, indices.length * targetLength(of.target));
    tally?.add(result, targets);
    if (asked.area) {
      scores.set(result.scores!, from - start);
      labels.set(targets, from - start);
    }
    await nextTurn();
  }
  return { totals, scores, labels, tally };
}

/** @param totals as a rank has them of its share, over all ranks */
export function evaluationOf(
  totals: Float32Array,
  target: Target,
  { metrics, ...tables }: Figures = { metrics: {} },
): Evaluation {
  const examples = totals[sums.exampleCount]!;
  if (examples === 0) return { examples, loss: 0, accuracy: null, metrics: {} };
  const targets = divisorOf(totals[sums.targetCount]!);
  return {
    examples,
    loss: totals[sums.lossSum]! / divisorOf(totals[sums.lossWeight]!),
    accuracy: target.kind === "number" ? null : totals[sums.correctCount]! / targets,
    metrics: { ...impliedMetrics(target, totals[sums.plainLossSum]! / targets), ...metrics },
    ...tables,
  };
}

/** @param plainLoss a target: cross-entropy, or the squared error */
function impliedMetrics(target: Target, plainLoss: number): Evaluation["metrics"] {
  switch (target.kind) {
    case "class":
    case "binary":
      return {};
    case "tokens":
      return { perplexity: perplexityOf(plainLoss) };
    case "number":
      return { rmse: Math.sqrt(plainLoss) };
  }
}

/**
 * Evaluates the held-out set, each rank its share; all ranks get the same answer. For an area scores and labels of all
 * examples travel too: 8 bytes an example.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED | ARTEFACT_MISSING
 */
export async function evaluateShare(
  ring: RingPort,
  of: HeldOut,
  asked: Asked,
  signal: AbortSignal,
): Promise<Evaluation> {
  const watch = () => ring.throwIfBroken();
  const share = await evaluateLocally(of, { place: ring, asked, watch }, signal);
  const { totals } = share;
  // Steps say nothing of how long the others' shares take.
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  await ring.allReduce(totals, signal);
  const figures = await gatherFigures(ring, share, { asked, exampleCount: of.set.count }, signal);
  return evaluationOf(totals, of.target, figures);
}

/**
 * What is no sum of a few numbers. Every rank comes to the same bits.
 * @param own none of a rank that only goes round with the others
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
 */
export async function gatherFigures(
  ring: RingPort,
  own: EvaluatedShare | undefined,
  of: { readonly asked: Asked; readonly exampleCount: number },
  signal: AbortSignal,
): Promise<Figures> {
  const { asked, exampleCount } = of;
  const nothing = { scores: new Float32Array(0), labels: new Float32Array(0) };
  const area = asked.area ? await areaOver(ring, own ?? nothing, exampleCount, signal) : undefined;
  if (!asked.plan) return figuresOf(asked, undefined, area);
  const counted = own?.tally?.sums ?? new Float64Array(0);
  const payloadBytesMax = 8 * lengthOf(asked.plan);
  const payloads = await ring.allGather(new Uint8Array(counted.buffer), signal, { payloadBytesMax });
  // Copied: a payload may lie where no f64 may begin.
  const parts = payloads.map((bytes) => new Float64Array(Uint8Array.from(bytes).buffer));
  const counting = parts.filter(({ length }) => length > 0);
  return figuresOf(asked, mergeTallies(asked.plan, counting), area);
}

/**
 * Of the examples of all ranks: an area is no mean of areas. Every rank comes to the same bits.
 * @param own of those that this rank has evaluated, of `exampleCount` in all
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
 */
async function areaOver(
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
