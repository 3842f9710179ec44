import type { RingfoldError } from "../../protocol/errors.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import type { Fault } from "./finite-guard.ts";
import type { Entry } from "./healing/entry.ts";
import type { StallBound } from "./stall-bound.ts";

/** What a generation needs of whatever trains in it: the TF.js trainer, or a PyTorch program beside the agent. */
export interface Trainee {
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  /** Updates that were left out, as `nonFinite: skip` asks, since it started. */
  readonly skippedCount: number;
  /** Of this rank's neighbours; what earlier rings have shown is kept. */
  readonly stall: StallBound;
  /** Of every ring that it joins, one after the other. */
  readonly memory: RingMemory;
  /** Where its state stands; between generations and in `onStep`. */
  point(): TrainingPoint;
  /** Its whole state, as a checkpoint holds it; between generations and in `onStep`. */
  encodeState(): Promise<Uint8Array>;
  /** Replaces its state. @throws RingfoldError ARTEFACT_CORRUPT when it is of another model; then nothing has changed */
  restoreState(state: Uint8Array): Promise<void>;
  /** Only the weights, as a version holds them: safetensors. After the last step. */
  encodeWeights(): Promise<Uint8Array>;
  /** Asks for a pause: the ring as a whole pauses at the synchronization point at which the first vote arrives. */
  requestPause(): void;
  /**
   * Trains until all steps are done or the ring pauses. After a throw its state is that of the last synchronization point
   * that this rank has reached.
   * @param entry when some ranks of the ring heal; else all begin where this one stands
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED | NOT_FINITE, and of healing HASH_DIVERGED |
   *   ARTEFACT_CORRUPT | OVERLOADED
   */
  run(ring: RingPort, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused">;
  /** Evaluates the held-out set, each rank its share; all ranks get the same answer. */
  evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation>;
  /** After the last step: decides which state `encodeWeights` takes, the last one unless told otherwise, and evaluates it. */
  settle?(
    ring: RingPort,
    signal: AbortSignal,
  ): Promise<{ readonly evaluation: Evaluation; readonly point: TrainingPoint; readonly isBest: boolean }>;
}

/** Whether this error says that a script is over: who has started it tells the coordinator, and nobody else needs to. */
const endsOfScript: ReadonlySet<string> = new Set([
  "SCRIPT_FAILED",
  "SCRIPT_SILENT",
  "SCRIPT_STALLED",
  "TRAINER_DIED",
]);
export const isEndOfScript = ({ code }: RingfoldError): boolean => endsOfScript.has(code);

export interface StepReport {
  /** Completed steps, those of this round included. */
  readonly step: number;
  /** Steps of this round. */
  readonly stepCount: number;
  /** Why the state was left as it was; undefined for a round that counts. */
  readonly fault: Fault | undefined;
  /** Means over the global batches of the round; of one with a fault over what can be used, NaN where nothing can. */
  readonly loss: number;
  /** Null where the target is a number. */
  readonly accuracy: number | null;
  /** Over all ranks and steps of the round. */
  readonly examples: number;
  readonly durationMs: number;
  /** Time in the ring that nothing was computed meanwhile, waiting for slower ranks included. */
  readonly communicationMs: number;
  /** Time in the ring while this rank computed. */
  readonly hiddenCommunicationMs: number;
  /** What this rank has sent over this ring so far, counted at its socket. */
  readonly sentBytes: number;
  /** What each rank took of the last batch, in per mille, where those were no even parts. */
  readonly batchShares?: readonly number[] | undefined;
  /** Of the state before this round, after `step` steps; and whether it was the best so far. */
  readonly evaluation?: (Evaluation & { readonly step: number; readonly isBest: boolean }) | undefined;
  /** Whoever trains asks for a checkpoint here, beside those that the job asks for. */
  readonly wantsCheckpoint?: boolean;
}
