import type { JobSpec, Wire } from "../../protocol/job-spec.ts";

const bytesPerElement: Readonly<Record<Wire, number>> = { f32: 4, bf16: 2, int8: 1 + 4 / 256 };
/** A place and an f32. */
const bytesPerEntry = 8;

/** What the ranks of a job exchange when they meet, told as all-reduces: those are what the link model predicts. */
export interface ExchangeCost {
  /** Of an all-reduce each round of which takes as long as one of this exchange. */
  readonly bytes: number;
  /** Such all-reduces a step. */
  readonly perStep: number;
}

/**
 * Top-k is an all-gather: W-1 rounds, not 2(W-1), each of which moves all that one rank contributes, not one W-th of the
 * vector.
 */
export function exchangeCost(
  { wire, topK, synchronization }: Pick<JobSpec, "wire" | "topK" | "synchronization">,
  of: { readonly parameterCount: number; readonly worldSize: number },
): ExchangeCost {
  const everySteps = synchronization.kind === "every-step" ? 1 : synchronization.everySteps;
  if (!topK) return { bytes: bytesPerElement[wire] * of.parameterCount, perStep: 1 / everySteps };
  const contributedBytes = bytesPerEntry * Math.ceil(topK.fraction * of.parameterCount);
  return { bytes: of.worldSize * contributedBytes, perStep: 1 / (2 * everySteps) };
}
