import type { Algorithm, JobSpec, Wire } from "../../protocol/job-spec.ts";
import { doublingAllReduceMs, ringAllReduceMs } from "../../protocol/link-model.ts";
import { doublingRounds } from "../../protocol/recursive-doubling.ts";
import { flightBytes, flowOver } from "../../protocol/segment-flow.ts";
import { hopsOf, isWorthwhile, type LinkTable, orderRing } from "./ring-order.ts";

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

/** How the ranks of a generation sum, and what the link model says that it takes. */
export interface Way {
  /** Peer ids by rank. */
  readonly order: readonly string[];
  readonly algorithm: Algorithm;
  /** Segments that a rank may have under way; absent where the links are not known. */
  readonly window?: number;
  /** Of one step; null where the links are not known. */
  readonly predictedCommunicationMs: number | null;
}

/**
 * A ring is as fast as its slowest hop, and its rounds are many; recursive doubling has few, of whole vectors. Takes what
 * the measured links predict to be faster by as much as is worth it; lossy wires and top-k go round a ring.
 *
 * @param of.ids the ranks in the order that they have now
 * @param of.links undefined where one of them is unknown: then nothing is touched
 */
export function wayOf(
  spec: JobSpec,
  of: {
    readonly ids: readonly string[];
    readonly links: LinkTable | undefined;
    readonly parameterCount: number;
  },
): Way {
  const { ids, links, parameterCount } = of;
  const asked = spec.allReduce === "doubling" ? "doubling" : "ring";
  if (!links) return { order: ids, algorithm: asked, predictedCommunicationMs: null };
  const worldSize = ids.length;
  const { bytes, perStep } = exchangeCost(spec, { parameterCount, worldSize });
  const order = spec.ringOrder === "measured" ? orderRing(ids, links, bytes) : ids;
  if (worldSize < 2) return { order, algorithm: asked, predictedCommunicationMs: 0 };
  const linkOf = (from: number, to: number) => links(order[from]!, order[to]!);
  const ringHops = hopsOf(order, links);
  const pairs = doublingRounds(worldSize).flatMap(({ hops }) => hops.map(({ from, to }) => linkOf(from, to)));
  const flows = { ring: flowOver(ringHops, spec.transport), doubling: flowOver(pairs, spec.transport) };
  const predicted: Readonly<Record<Algorithm, number>> = {
    ring: ringAllReduceMs(ringHops, bytes, flightBytes(flows.ring)),
    doubling: doublingAllReduceMs(linkOf, { worldSize, bytes, flightBytes: flightBytes(flows.doubling) }),
  };
  const mayDouble = spec.allReduce === "auto" && spec.wire === "f32" && !spec.topK;
  const algorithm = mayDouble && isWorthwhile(predicted.doubling, predicted.ring) ? "doubling" : asked;
  const { window } = flows[algorithm];
  return { order, algorithm, window, predictedCommunicationMs: perStep * predicted[algorithm] };
}
