import { z } from "zod";
import { digestSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { jobIdSchema } from "./job.ts";

/** Asks a peer how large an artefact is; ARTEFACT_MISSING when it has none. */
export const statArtefact: Conversation<{ digest: string }, { bytes: number }> = {
  protocol: "/ringfold/artefact/stat/1",
  request: z.object({ digest: digestSchema }),
  response: z.object({ bytes: z.number().int().nonnegative().max(limits.artefactBytes) }),
  requestBytesMax: 1_024,
  responseBytesMax: 1_024,
  timeoutMs: limits.requestTimeoutMs,
};

/** Reads one chunk of `limits.artefactChunkBytes`; the last one may be shorter. */
export const readArtefact: Conversation<{ digest: string; chunkIndex: number }, { bytes: Uint8Array }> = {
  protocol: "/ringfold/artefact/read/1",
  request: z.object({ digest: digestSchema, chunkIndex: z.number().int().nonnegative() }),
  response: z.object({ bytes: z.instanceof(Uint8Array) as z.ZodType<Uint8Array> }),
  requestBytesMax: 1_024,
  responseBytesMax: limits.artefactChunkBytes + limits.envelopeBytes,
  timeoutMs: limits.requestTimeoutMs,
};

/** What an agent holds and can hand out, as it says with each beat: enough for whoever has heard the beats before. */
export const holdingsSchema = z.object({
  /** Of its store: another one where that was begun anew. */
  store: z.string().max(64),
  /** How often what is held has changed. */
  revision: z.number().int().nonnegative(),
  /** The last changes, the newest at the end; the one there made this revision. */
  recent: z.array(z.object({ digest: digestSchema, held: z.boolean() })).max(limits.changesTold),
});
export type Holdings = z.infer<typeof holdingsSchema>;

/** agent or coordinator -> agent: a page of the list of what it holds, in the order of the digests. */
export const listArtefacts: Conversation<{ after: string | null }, ArtefactPage> = {
  protocol: "/ringfold/artefact/list/1",
  request: z.object({ after: digestSchema.nullable() }),
  response: z.object({
    /** As in its beats. */
    store: z.string().max(64),
    revision: z.number().int().nonnegative(),
    digests: z.array(digestSchema).max(limits.artefactsListed),
    isLast: z.boolean(),
  }),
  requestBytesMax: 1_024,
  responseBytesMax: limits.controlMessageBytes,
  timeoutMs: limits.requestTimeoutMs,
};
export interface ArtefactPage {
  store: string;
  revision: number;
  digests: string[];
  isLast: boolean;
}

const digests = z.array(digestSchema).max(10_000);

const holdRequestSchema = z.object({
  term: z.number().int().nonnegative(),
  /** Data sets, by the digests of their manifests: to fetch, and to hold from now on. */
  hold: digests,
  /** Every data set that is registered: chunks of these stay, */
  keep: digests,
  /** while these may go. */
  forget: digests,
  /** Of versions. */
  weights: z.object({ hold: digests, forget: digests }).default({ hold: [], forget: [] }),
  /** Jobs from whose checkpoints nobody will go on. */
  checkpoints: z.array(jobIdSchema).max(1_000).default([]),
});
export type HoldRequest = z.infer<typeof holdRequestSchema>;

/** coordinator -> agent: what to hold of what is registered, and what may go. Safe to repeat. */
export const holdArtefacts: Conversation<HoldRequest, { ok: true }> = {
  protocol: "/ringfold/artefact/hold/1",
  request: holdRequestSchema,
  response: z.object({ ok: z.literal(true) }),
  requestBytesMax: limits.controlMessageBytes,
  responseBytesMax: 1_024,
  timeoutMs: limits.requestTimeoutMs,
};
