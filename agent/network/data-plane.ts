import { once } from "node:events";
import net, { type AddressInfo, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { peerIdFromString } from "@libp2p/peer-id";
import { verifyPeerCertificate } from "@libp2p/tls/utils";
import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { peerIdSchema } from "../../protocol/ids.ts";
import { limits } from "../../protocol/limits.ts";
import { type Clock, type Log, systemClock } from "../../protocol/ports.ts";
import { Arrivals, type Purpose } from "./arrivals.ts";
import { DataSocket } from "./data-socket.ts";
import { FrameReceiver } from "./frame-receiver.ts";
import { type Frame, type FrameSocket, frameKind } from "./frame-socket.ts";

/**
 * Dedicated sockets for bulk data, beside libp2p (whose streams reach 0.08-0.17 of Gloo; MEASURED, section B): TLS 1.3
 * with libp2p certificates on both ends, then an authenticated hello both ways. A TLS 1.3 client believes it is
 * connected before the server has checked it, so nothing counts before the answer.
 */
export interface DataPlane {
  readonly port: number;
  /** @throws RingfoldError PEER_UNREACHABLE | PEER_IDENTITY | RING_BROKEN | REQUEST_TIMEOUT */
  dial(
    to: { readonly peerId: string; readonly host: string; readonly port: number },
    purpose: Purpose,
    signal: AbortSignal,
    options?: DialOptions,
  ): Promise<FrameSocket>;
  /** Resolves when `from` has dialled for exactly this purpose. @throws RingfoldError REQUEST_TIMEOUT */
  accept(from: string, purpose: Purpose, signal: AbortSignal): Promise<FrameSocket>;
  /** Serves every dial of this kind; one handler. */
  serve(kind: Purpose["kind"], handler: (socket: FrameSocket, purpose: Purpose) => Promise<void>): void;
  close(): Promise<void>;
}

export interface DialOptions {
  /** Where the bytes of this connection arrive, `limits.receiveRegionBytes` long; of one connection at a time. */
  readonly receiveRegion?: Uint8Array<ArrayBuffer>;
}

const purposeSchema = z.object({
  kind: z.enum(["ring", "heal"]),
  jobId: z.string().max(64),
  generation: z.number().int().nonnegative(),
}) satisfies z.ZodType<Purpose>;

export interface DataPlaneOptions {
  readonly peerId: string;
  /** From `generateCertificate` of @libp2p/tls; absent with `plaintext`. */
  readonly certificate: { readonly cert: string; readonly key: string };
  readonly host: string;
  readonly transport: "encrypted" | "plaintext";
  readonly log: Log;
  /** For the time-outs of a hop. */
  readonly clock?: Clock;
}

const helloSchema = z.object({ from: peerIdSchema, to: peerIdSchema, purpose: purposeSchema });
type Hello = z.infer<typeof helloSchema>;
const alpnProtocol = "ringfold-data/2";
/** The fastest first: every machine with a GPU has AES instructions, and 128 bits are as safe as the certificates. */
const ciphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

export async function openDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const arrivals = new Arrivals<DataSocket>();
  const sockets = new Set<Socket>();
  const closed = new AbortController();
  const { log } = options;

  const arrive = async (socket: Socket): Promise<void> => {
    track(sockets, socket);
    const { data, hello } = await greet(socket, options, closed.signal);
    const { from, purpose } = hello;
    const handler = arrivals.handlerOf(purpose.kind);
    if (handler) {
      acknowledge(data, options.peerId, hello);
      return handler(data, purpose);
    }
    socket.once("close", () => arrivals.forget(data, from, purpose));
    arrivals.arrive(data, from, purpose);
  };
  const server = await listen(options, (socket) => {
    arrive(socket).catch((error) => {
      log.warn({ err: toRingfoldError(error) }, "Refused a data connection");
      socket.destroy();
    });
  });

  return {
    port: (server.address() as AddressInfo).port,
    dial: (to, purpose, signal, { receiveRegion } = {}) =>
      dial(options, { to, purpose, receiveRegion }, AbortSignal.any([signal, closed.signal]), sockets),
    accept: async (from, purpose, signal) => {
      const socket = await arrivals.accept(from, purpose, AbortSignal.any([signal, closed.signal]));
      acknowledge(socket, options.peerId, { from, to: options.peerId, purpose });
      return socket;
    },
    serve: (kind, handler) => arrivals.serve(kind, handler),
    close: async () => {
      closed.abort();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
}

async function listen(options: DataPlaneOptions, onSocket: (socket: Socket) => void): Promise<Server> {
  const server =
    options.transport === "plaintext"
      ? net.createServer({ noDelay: true }, onSocket)
      : tls.createServer(
          {
            ...options.certificate,
            // libp2p certificates are self-signed; verifyPeerCertificate checks the signature by the peer's identity key.
            requestCert: true,
            rejectUnauthorized: false,
            minVersion: "TLSv1.3",
            ciphers,
            ALPNProtocols: [alpnProtocol],
            handshakeTimeout: limits.rendezvousTimeoutMs,
          },
          onSocket,
        );
  server.on("tlsClientError", (error: Error) => options.log.debug({ err: error }, "TLS handshake failed"));
  server.listen(0, options.host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw toRingfoldError(cause);
  }
  return server;
}

/** The listener's half of the hello. */
async function greet(
  socket: Socket,
  options: DataPlaneOptions,
  closed: AbortSignal,
): Promise<{ data: DataSocket; hello: Hello }> {
  const signal = AbortSignal.any([closed, AbortSignal.timeout(limits.rendezvousTimeoutMs)]);
  const authenticated = await certifiedPeer(socket);
  const data = new DataSocket(socket, {
    peerId: authenticated ?? "an unauthenticated peer",
    clock: options.clock ?? systemClock,
  });
  const hello = readHello(await data.receive(signal));
  if (hello.to !== options.peerId || (authenticated !== undefined && hello.from !== authenticated)) {
    data.destroy();
    throw new RingfoldError(
      "PEER_IDENTITY",
      `${authenticated ?? hello.from} said hello as ${hello.from} to ${hello.to}`,
      {
        peer: authenticated ?? hello.from,
      },
    );
  }
  data.peerId = hello.from;
  return { data, hello };
}

async function dial(
  options: DataPlaneOptions,
  {
    to,
    purpose,
    receiveRegion,
  }: {
    readonly to: { readonly peerId: string; readonly host: string; readonly port: number };
    readonly purpose: Purpose;
    readonly receiveRegion: Uint8Array<ArrayBuffer> | undefined;
  },
  signal: AbortSignal,
  sockets: Set<Socket>,
): Promise<DataSocket> {
  const receiver = new FrameReceiver(receiveRegion);
  const address = { host: to.host, port: to.port, noDelay: true, onread: receiver.onread };
  const socket =
    options.transport === "plaintext"
      ? net.connect(address)
      : tls.connect({
          ...address,
          ...options.certificate,
          rejectUnauthorized: false,
          minVersion: "TLSv1.3",
          ciphers,
          ALPNProtocols: [alpnProtocol],
        });
  track(sockets, socket);
  try {
    await once(socket, options.transport === "plaintext" ? "connect" : "secureConnect", { signal });
    await certifiedPeer(socket, to.peerId);
    const data = new DataSocket(socket, {
      peerId: to.peerId,
      receiver,
      clock: options.clock ?? systemClock,
    });
    data.send(helloFrame({ from: options.peerId, to: to.peerId, purpose }));
    const answer = readHello(await data.receive(signal));
    if (answer.from !== to.peerId || answer.to !== options.peerId) {
      throw new RingfoldError("PEER_IDENTITY", `${to.host}:${to.port} is ${answer.from}`, {
        peer: to.peerId,
      });
    }
    return data;
  } catch (cause) {
    socket.destroy();
    if (cause instanceof RingfoldError) throw cause;
    const data = { peer: to.peerId, host: to.host, port: to.port };
    if (signal.aborted)
      throw new RingfoldError("REQUEST_TIMEOUT", `${to.peerId} did not answer in time`, data, { cause });
    throw new RingfoldError("PEER_UNREACHABLE", `cannot reach ${to.peerId} at ${to.host}:${to.port}`, data, {
      cause,
    });
  }
}

/** The peer id that the TLS certificate proves, or undefined on plain TCP. @throws RingfoldError PEER_IDENTITY */
async function certifiedPeer(socket: Socket, expected?: string): Promise<string | undefined> {
  if (!(socket instanceof tls.TLSSocket)) return undefined;
  const { raw } = socket.getPeerCertificate();
  try {
    if (!raw) throw new Error("no certificate");
    return (
      await verifyPeerCertificate(raw, expected === undefined ? undefined : peerIdFromString(expected))
    ).toString();
  } catch (cause) {
    socket.destroy();
    const who = expected === undefined ? "a dialling peer" : expected;
    throw new RingfoldError(
      "PEER_IDENTITY",
      `${who} did not prove its identity`,
      { peer: expected ?? null },
      { cause },
    );
  }
}

const acknowledge = (socket: DataSocket, self: string, hello: Hello): void =>
  socket.send(helloFrame({ from: self, to: hello.from, purpose: hello.purpose }));

const helloFrame = (hello: Hello): Frame => ({
  kind: frameKind.hello,
  a: 0,
  b: 0,
  c: 0,
  d: 0,
  payload: encode(hello),
});

function readHello(frame: Frame): Hello {
  if (frame.kind !== frameKind.hello) throw new RingfoldError("MESSAGE_INVALID", "no hello at the start");
  return decode(frame.payload, helloSchema, limits.segmentBytes);
}
