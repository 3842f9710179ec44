import { z } from "zod";
import { decode, encode } from "../../../protocol/codec.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Evaluation, evaluationSchema } from "../../../protocol/messages/job-report.ts";
import type { Dataset } from "../../data/dataset.ts";
import type { EvaluationResult, StageModel } from "../../engine/port.ts";
import { evaluateLocally, evaluateShare, type HeldOut } from "../evaluation.ts";
import { type Asked, nothingAsked } from "../metrics/asked.ts";
import { evaluateMicroBatch } from "./pipeline.ts";
import type { StageBatches } from "./stage-batches.ts";
import type { StageRing } from "./stage-ring.ts";

/**
 * Takes the held-out set through the stages, each replica its share. The last stage knows what comes of it and tells the
 * others.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
 */
export async function evaluateStages(
  ring: StageRing,
  of: {
    readonly model: StageModel;
    readonly data: Dataset;
    readonly batches: StageBatches;
    readonly nextTurn: () => Promise<void>;
    readonly ahead: HeldOut["ahead"];
    readonly asked: Asked;
  },
  signal: AbortSignal,
): Promise<Evaluation> {
  const { model, data, batches, nextTurn, ahead, asked } = of;
  const { column, replicas } = ring;
  const nothing: EvaluationResult = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };
  const heldOut = {
    ...{
      set: data.test,
      target: data.shape.target,
      batch: batches.buffer,
      batchSize: batches.microBatchSize,
    },
    ...{ nextTurn, ahead },
    model: {
      /** What was read of the set goes in at the first stage, and at the last one it is compared. */
      evaluate: async (...[batch, details]: Parameters<StageModel["evaluate"]>) => {
        const examples = Uint32Array.from({ length: batch.exampleCount }, (_, i) => i);
        const parts = { model, column, nextTurn, load: async () => batch, of: { step: 0, examples } };
        return (await evaluateMicroBatch(parts, { details: details === true }, signal)) ?? nothing;
      },
    },
  };
  let told: Uint8Array | undefined;
  if (column.isLast) told = encode(await evaluateShare(replicas, heldOut, asked, signal));
  else {
    const watch = () => ring.throwIfBroken();
    await evaluateLocally(heldOut, { place: replicas, asked: nothingAsked, watch }, signal);
  }
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  return decode(await column.fromLast(told, signal), sentSchema, limits.controlMessageBytes);
}

/** A loss may be NaN, and what follows from it too, which msgpack tells as they are. */
const anyNumber = z.custom<number>((value) => typeof value === "number");
const sentSchema: z.ZodType<Evaluation> = evaluationSchema.extend({
  loss: anyNumber,
  metrics: z.record(z.string().max(64), anyNumber),
});
