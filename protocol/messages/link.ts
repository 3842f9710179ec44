import { z } from "zod";
import { peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";

/** agent -> agent: sends back as many bytes as are asked for; what they take tells latency and bandwidth of the link. */
export const probeLink: Conversation<{ bytes: number }, { payload: Uint8Array }> = {
  protocol: "/ringfold/link/probe/1",
  request: z.object({ bytes: z.number().int().nonnegative().max(limits.linkProbeBytes) }),
  response: z.object({ payload: z.instanceof(Uint8Array) as z.ZodType<Uint8Array> }),
  requestBytesMax: 1_024,
  responseBytesMax: limits.linkProbeBytes + limits.envelopeBytes,
  timeoutMs: limits.requestTimeoutMs,
};

/** A link as one end measured it: moving d bytes takes latencyMs + d / bytesPerSecond. */
export const linkSchema = z.object({
  peerId: peerIdSchema,
  latencyMs: z.number().nonnegative(),
  bytesPerSecond: z.number().positive(),
});
export type MeasuredLink = z.infer<typeof linkSchema>;
