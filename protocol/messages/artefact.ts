import { z } from "zod";
import { digestSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";

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
