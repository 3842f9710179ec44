import { randomBytes } from "node:crypto";
import { z } from "zod";
import { decode, encode } from "../../../protocol/codec.ts";
import { isErrorCode, RingfoldError } from "../../../protocol/errors.ts";
import { peerIdSchema } from "../../../protocol/ids.ts";
import type { Purpose } from "./arrivals.ts";
import { type Frame, type FrameSocket, frameKind } from "./frame-socket.ts";

/**
 * The first words on a data connection: the listener sends a challenge; the dialler says who it is, whom it means and what
 * for, with the challenge and one of its own; the listener answers with the latter. So neither end takes words that were
 * recorded on another connection. Over TLS the certificates prove who speaks; over plain TCP that is only claimed.
 */
const nonceSchema = z.string().regex(/^[0-9a-f]{32}$/);
const createNonce = (): string => randomBytes(16).toString("hex");

const purposeSchema = z.object({
  kind: z.enum(["ring", "heal"]),
  jobId: z.string().max(64),
  generation: z.number().int().nonnegative(),
}) satisfies z.ZodType<Purpose>;

const challengeSchema = z.object({ challenge: nonceSchema });
const answerSchema = z.object({ from: peerIdSchema, to: peerIdSchema, echo: nonceSchema });
const helloSchema = answerSchema.extend({ purpose: purposeSchema, challenge: nonceSchema });
const refusalSchema = z.object({
  refused: z.object({ code: z.string().max(64), message: z.string().max(1_000) }),
});
export type Hello = z.infer<typeof helloSchema>;

/** A hello is some 300 bytes. */
const helloBytesMax = 2_048;

/**
 * The listener's half, up to the answer.
 * @param peer whom the certificate proves; undefined over plain TCP
 * @throws RingfoldError PEER_IDENTITY | HELLO_REPLAYED | MESSAGE_INVALID | MESSAGE_TOO_LARGE | CANCELLED
 */
export async function askHello(
  socket: FrameSocket,
  { self, peer }: { readonly self: string; readonly peer: string | undefined },
  signal: AbortSignal,
): Promise<Hello> {
  const challenge = createNonce();
  socket.send(helloFrame({ challenge }));
  const hello = readHello(await socket.receive(signal), helloSchema);
  const { from, to, echo } = hello;
  if (to !== self || (peer !== undefined && from !== peer)) {
    const who = peer ?? from;
    throw new RingfoldError("PEER_IDENTITY", `${who} said hello as ${from} to ${to}`, {
      peer: who,
      as: from,
      to,
    });
  }
  if (echo !== challenge) {
    throw new RingfoldError("HELLO_REPLAYED", `a hello of ${from} is from another connection`, {
      peer: from,
    });
  }
  return hello;
}

/** The listener's answer: from now on the connection counts. */
export const answerHello = (socket: FrameSocket, { from, to, challenge }: Hello): void =>
  socket.send(helloFrame({ from: to, to: from, echo: challenge } satisfies z.infer<typeof answerSchema>));

/** Says why, and ends the connection. */
export function refuseHello(socket: FrameSocket, { code, message }: RingfoldError): void {
  socket.send(helloFrame({ refused: { code, message: message.slice(0, 1_000) } }));
  socket.end();
}

/**
 * The dialler's half. @throws RingfoldError the code that the listener refused with
 * | PEER_IDENTITY | HELLO_REPLAYED | MESSAGE_INVALID | MESSAGE_TOO_LARGE | RING_BROKEN | CANCELLED
 */
export async function sayHello(
  socket: FrameSocket,
  { from, to, purpose }: Pick<Hello, "from" | "to" | "purpose">,
  signal: AbortSignal,
): Promise<void> {
  const challenge = createNonce();
  const { challenge: echo } = await hear(socket, challengeSchema, signal);
  socket.send(helloFrame({ from, to, purpose, challenge, echo } satisfies Hello));
  const answer = await hear(socket, answerSchema, signal);
  if (answer.from !== to || answer.to !== from) {
    throw new RingfoldError("PEER_IDENTITY", `${answer.from} answered for ${to}`, {
      peer: to,
      as: answer.from,
    });
  }
  if (answer.echo !== challenge) {
    throw new RingfoldError("HELLO_REPLAYED", `an answer of ${to} is from another connection`, { peer: to });
  }
}

async function hear<T>(socket: FrameSocket, schema: z.ZodType<T>, signal: AbortSignal): Promise<T> {
  const heard = readHello(await socket.receive(signal), z.union([refusalSchema, schema]));
  if (!isRefusal(heard)) return heard;
  const { code, message } = heard.refused;
  throw new RingfoldError(isErrorCode(code) ? code : "PEER_REFUSED", `${socket.peerId} refused: ${message}`, {
    peer: socket.peerId,
  });
}

const isRefusal = (heard: unknown): heard is z.infer<typeof refusalSchema> =>
  typeof heard === "object" && heard !== null && "refused" in heard;

const helloFrame = (content: object): Frame => ({
  ...{ kind: frameKind.hello, a: 0, b: 0, c: 0, d: 0 },
  payload: encode(content),
});

function readHello<T>(frame: Frame, schema: z.ZodType<T>): T {
  if (frame.kind !== frameKind.hello) throw new RingfoldError("MESSAGE_INVALID", "no hello at the start");
  return decode(frame.payload, schema, helloBytesMax);
}
