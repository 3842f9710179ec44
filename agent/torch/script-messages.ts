import { z } from "zod";
import { digestSchema } from "../../protocol/ids.ts";

/**
 * Between an agent and a script beside it (ringfold/session.py is the other end): JSON over a Unix socket, with 4 bytes of
 * length (little-endian) ahead. They take turns: a script sends a message, then waits and does what it is asked. It does not
 * wait after `final`, of which there may be several in a step, nor after the `reduce` of a rank that runs ahead, which tells
 * of several steps at once.
 */

export const scriptProtocol = 3;

const step = z.number().int().nonnegative();
const amount = z.number();

export const fromScriptSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("hello"),
    protocol: z.number().int(),
    python: z.string().max(64),
    /** Release of torch; null where there is none. */
    torch: z.string().max(64).nullable(),
  }),
  /** The model stands and the loop begins: what travels, in order, and where the state stands. */
  z.object({
    kind: z.literal("ready"),
    layout: z
      .array(
        z.object({
          name: z.string().max(512),
          shape: z.array(z.number().int().nonnegative()).max(16),
          elementCount: z.number().int().nonnegative(),
        }),
      )
      .max(65_536),
    totalSteps: step,
    stepsPerEpoch: z.number().int().positive(),
    device: z.string().max(64),
    step,
    hash: digestSchema,
  }),
  /** The vector from `start` on lies in the shared memory, and will not change before it is summed: it may go round. */
  z.object({
    kind: z.literal("final"),
    start: z.number().int().nonnegative(),
    /** The first parameter of that bucket whose gradient is not finite. */
    nonFinite: z.string().max(512).nullable(),
  }),
  /** Its gradients lie in the shared memory; of a ring of one they stay where they are. */
  z.object({
    kind: z.literal("reduce"),
    step,
    /** Steps up to this one that the totals are of; more than one only where it does not wait. */
    stepCount: z.number().int().positive(),
    totals: z.object({ lossSum: amount, correctCount: amount, exampleCount: amount }),
    /** The parameter whose gradient is not finite, or `loss`. */
    nonFinite: z.string().max(512).nullable(),
    /** Parts of the layout of which this rank has no gradient: none of its examples has come by them. */
    lacking: z.array(z.number().int().nonnegative()).max(65_536),
    wantsCheckpoint: z.boolean(),
    /** False of a rank alone that runs ahead: it is not answered. */
    waits: z.boolean(),
  }),
  /** No step is under way: after a pause, or after the last step with the sums over this rank's share. */
  z.object({
    kind: z.literal("boundary"),
    step,
    evaluation: z.object({ lossSum: amount, correctCount: amount, exampleCount: amount }).nullable(),
  }),
  /** Answers point, save, weights and load. */
  z.object({
    kind: z.literal("state"),
    step,
    hash: digestSchema,
    bytes: z.number().int().nonnegative(),
  }),
  /** Answers load: the state is of another model. */
  z.object({ kind: z.literal("refused"), message: z.string().max(1_000) }),
  z.object({
    kind: z.literal("failed"),
    reason: z.string().max(1_000),
    torchMissing: z.boolean(),
    /** There is no room for what is to cross; the reason says where, and how much is free. */
    sharedMemoryFull: z.boolean(),
  }),
]);
export type FromScript = z.infer<typeof fromScriptSchema>;

export type ToScript =
  | {
      readonly kind: "begin";
      readonly generation: number;
      readonly rank: number;
      readonly worldSize: number;
      /** Of the buckets of the vector, in the order of their sums. */
      readonly bucketStarts: readonly number[];
    }
  | {
      readonly kind: "reduced";
      readonly exampleCount: number;
      readonly pauses: boolean;
      readonly skipped: boolean;
      /** Parts of which no rank has a gradient. */
      readonly lacking: readonly number[];
      /** As of `free`. */
      readonly freeUntil: number;
    }
  /** A rank that is alone need not wait at the steps before this one: nothing of its state is wanted there. */
  | { readonly kind: "free"; readonly until: number }
  /** Say where the state stands. */
  | { readonly kind: "point" }
  /** Write the state, or a version's weights, to the shared file. */
  | { readonly kind: "save" }
  | { readonly kind: "weights" }
  /** Take the state from the shared file. */
  | { readonly kind: "load" }
  /** All steps are done everywhere. */
  | { readonly kind: "end" };
