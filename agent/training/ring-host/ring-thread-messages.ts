import { type ErrorCode, type ErrorData, RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { DataPlaneOptions } from "../../network/data-plane/data-plane.ts";
import type { SharedRingMemory, VectorPlace } from "../../ring/memory.ts";
import type { AllReduceOptions } from "../../ring/port.ts";

/** Between a trainer and its ring thread. Both are this process, so nothing is versioned or checked. */

export interface RingThreadSetup {
  readonly plane: Pick<DataPlaneOptions, "peerId" | "certificate" | "host" | "transport">;
  readonly logLevel: string;
}

/** Calls are numbered and answered; rings are named by the call that has linked them. */
export type ToRingThread =
  | {
      readonly kind: "link";
      readonly call: number;
      readonly plan: GenerationPlan;
      readonly memory: SharedRingMemory;
      /** Int32 [1]: 1 + the rank that has broken the ring, or 0. For a thread that computes and hears no message. */
      readonly broken: SharedArrayBuffer;
    }
  | (AllReduce & (SharedVectors | CopiedVectors))
  | {
      readonly kind: "all-gather";
      readonly call: number;
      readonly ring: number;
      readonly payload: Uint8Array;
      readonly payloadBytesMax: number;
    }
  | { readonly kind: "fetch-start"; readonly call: number; readonly plan: GenerationPlan }
  | { readonly kind: "cancel"; readonly call: number; readonly error: ErrorMessage }
  | { readonly kind: "hop-timeout"; readonly ring: number; readonly timeoutMs: number }
  | { readonly kind: "destroy"; readonly ring: number }
  | { readonly kind: "offer"; readonly plan: AdmissionPlan; readonly state: Uint8Array }
  | { readonly kind: "withdraw" };

interface AllReduce {
  readonly kind: "all-reduce";
  readonly call: number;
  readonly ring: number;
  readonly options: Omit<AllReduceOptions, "residual">;
}

/** Summed where they are. */
interface SharedVectors {
  readonly vector: VectorPlace;
  readonly residual: VectorPlace | undefined;
}

/** From elsewhere: what has become of them is the answer. */
export interface CopiedVectors {
  readonly copies: { readonly vector: Float32Array; readonly residual: Float32Array | undefined };
}

export type FromRingThread =
  | { readonly kind: "listening"; readonly port: number }
  | { readonly kind: "result"; readonly call: number; readonly value: unknown; readonly ring?: RingFigures }
  | { readonly kind: "error"; readonly call: number; readonly error: ErrorMessage };

/** Of a ring after an operation. */
export interface RingFigures {
  readonly sentBytes: number;
  readonly busyMs: number;
  readonly isWornOut: boolean;
}

/** A RingfoldError on its way: cloning an error would lose its class and its code. */
export interface ErrorMessage {
  readonly code: ErrorCode;
  readonly message: string;
  readonly data: ErrorData;
}

export function errorMessage(cause: unknown): ErrorMessage {
  const { code, message, data } = toRingfoldError(cause);
  return { code, message, data };
}

export const receivedError = ({ code, message, data }: ErrorMessage): RingfoldError =>
  new RingfoldError(code, message, data);
