import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { lpStream } from "@libp2p/utils";
import { z } from "zod";
import { decode, encode, validate } from "../../protocol/codec.ts";
import { isErrorCode, RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { ClusterNetwork, Conversation, Log, RequestContext } from "../../protocol/ports.ts";

/**
 * Request and response over libp2p streams: one stream a request, msgpack, length-prefixed, bounded, validated on both
 * sides. A refusal travels as a code with data and comes out at the caller as the same RingfoldError.
 */

const envelopeVersion = 1;
const requestEnvelopeSchema = z.object({ v: z.literal(envelopeVersion), body: z.unknown() });
const responseEnvelopeSchema = z.union([
  z.object({ v: z.literal(envelopeVersion), ok: z.literal(true), body: z.unknown() }),
  z.object({
    v: z.literal(envelopeVersion),
    ok: z.literal(false),
    code: z.string().max(64),
    message: z.string().max(4_000),
    data: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  }),
]);

/** A length prefix above this is refused before a byte of the message is read. */
const lengthPrefixBytes = 5;
const streamsPerConnectionMax = 512;

type Send = ClusterNetwork["request"];

export function createRequester(node: Libp2p): Send {
  return async (to, conversation, request, options = {}) => {
    const timeoutMs = Math.ceil(options.timeoutMs ?? conversation.timeoutMs);
    const startedAtMs = performance.now();
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
    let stream: Stream | undefined;
    try {
      stream = await node.dialProtocol(peerIdFromString(to), conversation.protocol, { signal });
      const frames = lpStream(stream, frameLimits(conversation.responseBytesMax));
      await frames.write(encode({ v: envelopeVersion, body: request }), { signal });
      const bytes = (await frames.read({ signal })).subarray();
      const answer = decode(bytes, responseEnvelopeSchema, conversation.responseBytesMax);
      if (!answer.ok) throw refusal(answer, to);
      const body = validate(answer.body, conversation.response, conversation.protocol);
      stream.close().catch(() => {}); // the answer is here; how the stream ends no longer matters
      return body;
    } catch (cause) {
      stream?.abort(cause instanceof Error ? cause : new Error("request failed"));
      throw requestError(cause, { to, protocol: conversation.protocol, startedAtMs, deadline });
    }
  };
}

export async function registerHandler<Request, Response>(
  node: Libp2p,
  conversation: Conversation<Request, Response>,
  handler: (request: Request, context: RequestContext) => Promise<Response>,
  { log, closed }: { readonly log: Log; readonly closed: AbortSignal },
): Promise<void> {
  let active = 0;
  const answer = async (stream: Stream, connection: Connection): Promise<void> => {
    const from = connection.remotePeer.toString();
    const callerGone = new AbortController();
    stream.addEventListener("close", () => callerGone.abort(), { once: true });
    const signal = AbortSignal.any([closed, callerGone.signal, AbortSignal.timeout(conversation.timeoutMs)]);
    const frames = lpStream(stream, frameLimits(conversation.requestBytesMax));
    let reply: z.infer<typeof responseEnvelopeSchema>;
    active++;
    try {
      if (active > limits.concurrentInboundRequestsMax) {
        throw new RingfoldError(
          "OVERLOADED",
          `more than ${limits.concurrentInboundRequestsMax} requests at once`,
        );
      }
      const bytes = (await frames.read({ signal })).subarray();
      const envelope = decode(bytes, requestEnvelopeSchema, conversation.requestBytesMax);
      const request = validate(envelope.body, conversation.request, conversation.protocol);
      reply = { v: envelopeVersion, ok: true, body: await handler(request, { from, signal }) };
    } catch (cause) {
      reply = refusalEnvelope(cause, { from, protocol: conversation.protocol, log });
    } finally {
      active--;
    }
    try {
      await frames.write(encode(reply), { signal });
      await stream.close({ signal });
    } catch (cause) {
      stream.abort(cause instanceof Error ? cause : new Error("reply failed"));
    }
  };
  await node.handle(conversation.protocol, answer, {
    maxInboundStreams: streamsPerConnectionMax,
    maxOutboundStreams: streamsPerConnectionMax,
    runOnLimitedConnection: true,
  });
}

const frameLimits = (bytesMax: number) => ({
  maxDataLength: bytesMax,
  maxLengthLength: lengthPrefixBytes,
  maxBufferSize: bytesMax + limits.envelopeBytes,
});

function refusal(
  answer: { code: string; message: string; data: RingfoldError["data"] },
  to: string,
): RingfoldError {
  const code = isErrorCode(answer.code) ? answer.code : "PEER_REFUSED";
  return new RingfoldError(code, answer.message, { ...answer.data, peer: to });
}

function refusalEnvelope(
  cause: unknown,
  at: { readonly from: string; readonly protocol: string; readonly log: Log },
): z.infer<typeof responseEnvelopeSchema> {
  const error = toRingfoldError(cause, isFramingError(cause) ? "MESSAGE_INVALID" : "INTERNAL");
  const level = error.code === "INTERNAL" ? "error" : "debug";
  at.log[level]({ err: error, from: at.from, protocol: at.protocol }, "Refused a request");
  const data: Record<string, string | number | boolean | null> = {};
  for (const [key, value] of Object.entries(error.data))
    data[key] = Array.isArray(value) ? value.join(", ") : (value as string);
  return { v: envelopeVersion, ok: false, code: error.code, message: error.message.slice(0, 4_000), data };
}

/** What lpStream throws when a peer sends a hostile length or ends in the middle. */
const isFramingError = (cause: unknown): boolean =>
  cause instanceof Error &&
  /^(InvalidMessageLength|InvalidDataLength|InvalidDataLengthLength|UnexpectedEOF)/.test(cause.name);

function requestError(
  cause: unknown,
  at: { to: string; protocol: string; startedAtMs: number; deadline: AbortSignal },
): RingfoldError {
  if (cause instanceof RingfoldError) return cause;
  const elapsedMs = Math.round(performance.now() - at.startedAtMs);
  const data = { peer: at.to, protocol: at.protocol, elapsedMs };
  if (at.deadline.aborted) {
    return new RingfoldError("REQUEST_TIMEOUT", `no answer from ${at.to} in ${elapsedMs} ms`, data, {
      cause,
    });
  }
  if (cause instanceof Error && cause.name === "AbortError") {
    return new RingfoldError("CANCELLED", "the request was cancelled", data, { cause });
  }
  if (cause instanceof Error && cause.name === "UnsupportedProtocolError") {
    // It may just be starting: retryable. A release that does not fit says so itself, in its answer to the hello.
    return new RingfoldError("PEER_UNREACHABLE", `${at.to} does not speak ${at.protocol}`, data, { cause });
  }
  return new RingfoldError("PEER_UNREACHABLE", `cannot reach ${at.to}`, data, { cause });
}
