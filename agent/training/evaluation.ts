import type { Target } from "../../protocol/data-schema.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation } from "../../protocol/messages/job.ts";
import type { BatchBuffer, ExampleSet } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { Ring } from "../ring/ring.ts";
import { rankedArea } from "./ranked-area.ts";
import { evenShare } from "./sampler.ts";

/** Examples that a rank evaluates between two turns of the event loop. */
export const evaluationBatch = 250;

const tail = { lossSum: 0, correctCount: 1, targetCount: 2, exampleCount: 3, length: 4 } as const;

interface HeldOut {
  readonly model: TrainableModel;
  readonly set: ExampleSet;
  readonly target: Target;
  readonly batch: BatchBuffer;
  /** Examples between two turns of the event loop. */
  readonly batchSize: number;
  readonly nextTurn: () => Promise<void>;
}

/**
 * Evaluates the held-out set, each rank its share; all ranks get the same answer. Sums travel as f32: exact for counts
 * below 2^24. Where the target is binary, scores and labels of all examples travel too: 8 bytes an example.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
 */
export async function evaluateShare(ring: Ring, of: HeldOut, signal: AbortSignal): Promise<Evaluation> {
  const { model, set, target, batch, batchSize, nextTurn } = of;
  const { start, end } = evenShare({ count: set.count, rank: ring.rank, worldSize: ring.worldSize });
  const totals = new Float32Array(tail.length);
  const isRanked = target.kind === "binary";
  const scores = new Float32Array(isRanked ? end - start : 0);
  const labels = new Float32Array(scores.length);
  for (let from = start; from < end; from += batchSize) {
    if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
    const indices = Uint32Array.from({ length: Math.min(batchSize, end - from) }, (_, i) => from + i);
    const examples = await batch.gather(set, indices, signal);
    const result = await model.evaluate(examples);
    totals[tail.lossSum]! += result.lossSum;
    totals[tail.correctCount]! += result.correctCount;
    totals[tail.targetCount]! += result.targetCount;
    totals[tail.exampleCount]! += indices.length;
    if (isRanked) {
      scores.set(result.scores!, from - start);
      labels.set(examples.targets.subarray(0, indices.length), from - start);
    }
    await nextTurn();
  }
  // Steps say nothing of how long the others' shares take.
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  await ring.allReduce(totals, signal);
  const area = isRanked
    ? await areaOver(ring, { scores, labels, exampleCount: set.count }, signal)
    : undefined;
  const targets = totals[tail.targetCount]!;
  const loss = totals[tail.lossSum]! / targets;
  return {
    examples: totals[tail.exampleCount]!,
    loss,
    accuracy: target.kind === "number" ? null : totals[tail.correctCount]! / targets,
    metrics: metricsOf(target, loss, area),
  };
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

/** Of the examples of all ranks: an area is no mean of areas. */
async function areaOver(
  ring: Ring,
  of: { readonly scores: Float32Array; readonly labels: Float32Array; readonly exampleCount: number },
  signal: AbortSignal,
): Promise<number | undefined> {
  const own = Buffer.from(Float32Array.from([...of.scores, ...of.labels]).buffer);
  const payloads = await ring.allGather(own, signal, { payloadBytesMax: 8 * of.exampleCount });
  // Copied: a payload may lie where no f32 may begin.
  const shares = payloads.map((bytes) => new Float32Array(Uint8Array.from(bytes).buffer));
  const half = (share: Float32Array, at: 0 | 1) => [
    ...share.subarray((at * share.length) / 2, ((at + 1) * share.length) / 2),
  ];
  return rankedArea(
    shares.flatMap((share) => half(share, 0)),
    shares.flatMap((share) => half(share, 1)),
  );
}
