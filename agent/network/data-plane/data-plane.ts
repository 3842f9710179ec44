import { once } from "node:events";
import net, { type AddressInfo, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Clock, type Log, systemClock } from "../../../protocol/ports.ts";
import { abortError } from "../../deadline.ts";
import { Admission, type AdmissionPlan } from "./admission.ts";
import { Arrivals, type Purpose } from "./arrivals.ts";
import { certifiedPeer } from "./certificate.ts";
import { DataSocket } from "./data-socket.ts";
import { FrameReceiver } from "./frame-receiver.ts";
import type { FrameSocket } from "./frame-socket.ts";
import { type Guest, Guests } from "./guests.ts";
import { answerHello, askHello, type Hello, refuseHello, sayHello } from "./hello.ts";

/**
 * Dedicated sockets for bulk data, beside libp2p (whose streams reach 0.08-0.17 of Gloo; MEASURED, section B): TLS 1.3
 * with libp2p certificates on both ends, then an authenticated hello both ways. A TLS 1.3 client believes it is
 * connected before the server has checked it, so nothing counts before the answer.
 */
export interface DataPlane {
  readonly port: number;
  /** Who may dial this rank, from now on; dials for a newer plan wait for it, for `limits.rendezvousTimeoutMs`. */
  admit(plan: AdmissionPlan): void;
  /**
   * @throws RingfoldError PEER_UNREACHABLE | PEER_IDENTITY | RING_BROKEN | REQUEST_TIMEOUT, or what the peer refused with:
   * NOT_A_MEMBER | STALE_GENERATION | DUPLICATE_IDENTITY | HELLO_REPLAYED | OVERLOADED
   */
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
  readonly receiveRegion?: Uint8Array;
}

export interface DataPlaneOptions {
  readonly peerId: string;
  /** From `generateCertificate` of @libp2p/tls; absent with `plaintext`. */
  readonly certificate: { readonly cert: string; readonly key: string };
  readonly host: string;
  readonly transport: "encrypted" | "plaintext";
  readonly log: Log;
  /** For the time-outs of a hop and of guests, and for the dates of certificates. */
  readonly clock?: Clock;
}

const alpnProtocol = "ringfold-data/3";
/** The fastest first: every machine with a GPU has AES instructions, and 128 bits are as safe as the certificates. */
const ciphers = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

export async function openDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const { log, clock = systemClock } = options;
  const arrivals = new Arrivals<DataSocket>();
  const admission = new Admission();
  /** Of links that nobody has asked for yet. */
  const unasked = new WeakMap<DataSocket, { readonly hello: Hello; readonly guest: Guest }>();
  const guests = new Guests({ countMax: limits.guestsMax, timeoutMs: limits.rendezvousTimeoutMs, clock });
  const sockets = new Set<Socket>();
  const closed = new AbortController();

  const receive = async (socket: Socket): Promise<void> => {
    track(sockets, socket);
    const guest = guests.greet(socket);
    if (!guest) return void socket.destroy();
    const data = new DataSocket(socket, { peerId: "an unauthenticated peer", clock });
    try {
      const hello = await greet(data, socket, { self: options.peerId, clock, signal: guest.signal });
      const { from, purpose } = hello;
      await admission.admitted(from, purpose, guest.signal);
      if (data.closed.aborted) throw data.closed.reason; // its end may be known here before the guest is gone
      const handler = arrivals.handlerOf(purpose.kind);
      if (handler) {
        answerHello(data, hello);
        guest.letIn();
        handler(data, purpose).catch((error) => {
          log.warn({ err: toRingfoldError(error) }, "A data connection failed");
          socket.destroy();
        });
        return;
      }
      // A guest until somebody asks for it: one whose other end is gone without a word would wait for ever.
      guest.recognise();
      unasked.set(data, { hello, guest });
      socket.once("close", () => arrivals.forget(data, from, purpose));
      arrivals.arrive(data, from, purpose);
      const turnOut = () => {
        arrivals.forget(data, from, purpose); // whoever asks from now on is to have the next one
        refuse(data, abortError(guest.signal));
      };
      guest.signal.addEventListener("abort", turnOut, { once: true });
    } catch (cause) {
      refuse(data, guest.signal.aborted ? abortError(guest.signal) : toRingfoldError(cause));
    }
  };
  const refuse = (data: DataSocket, error: RingfoldError): void => {
    // Neither a crowd of strangers, nor one that left by itself, nor our own end is news.
    const isNews = !["OVERLOADED", "RING_BROKEN", "CANCELLED"].includes(error.code);
    log[isNews ? "warn" : "debug"]({ err: error }, "Refused a data connection");
    refuseHello(data, error);
  };
  const server = await listen(options, {
    onConnection: (socket) => guests.enter(socket),
    onSocket: (socket) => void receive(socket),
  });

  return {
    port: (server.address() as AddressInfo).port,
    admit: (plan) => {
      admission.admit(plan);
      for (const socket of arrivals.takeOlder(plan)) refuse(socket, staleError(socket, plan));
    },
    dial: (to, purpose, signal, { receiveRegion } = {}) =>
      dial(options, { to, purpose, receiveRegion }, AbortSignal.any([signal, closed.signal]), sockets),
    accept: async (from, purpose, signal) => {
      const socket = await arrivals.accept(from, purpose, AbortSignal.any([signal, closed.signal]));
      const { hello, guest } = unasked.get(socket)!;
      guest.letIn();
      answerHello(socket, hello);
      return socket;
    },
    serve: (kind, handler) => arrivals.serve(kind, handler),
    close: async () => {
      closed.abort();
      guests.close();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

const staleError = ({ peerId }: DataSocket, { generation }: AdmissionPlan): RingfoldError =>
  new RingfoldError("STALE_GENERATION", `${peerId} waits in a ring that is over: it is at ${generation}`, {
    ...{ peer: peerId, expectedGeneration: generation },
  });

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
}

async function listen(
  options: DataPlaneOptions,
  {
    onConnection,
    onSocket,
  }: {
    /** Every connection as TCP accepts it. */
    readonly onConnection: (socket: Socket) => void;
    /** Those that frames may come from: the same over plain TCP, over TLS after its handshake. */
    readonly onSocket: (socket: Socket) => void;
  },
): Promise<Server> {
  const server =
    options.transport === "plaintext"
      ? net.createServer({ noDelay: true })
      : tls.createServer({
          ...options.certificate,
          // libp2p certificates are self-signed; verifyPeerCertificate checks the signature by the peer's identity key.
          requestCert: true,
          rejectUnauthorized: false,
          minVersion: "TLSv1.3",
          ciphers,
          ALPNProtocols: [alpnProtocol],
          handshakeTimeout: limits.rendezvousTimeoutMs,
        });
  server.on("connection", onConnection);
  server.on(options.transport === "plaintext" ? "connection" : "secureConnection", onSocket);
  server.on("tlsClientError", (error: Error) => options.log.debug({ err: error }, "TLS handshake failed"));
  server.listen(0, options.host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw toRingfoldError(cause);
  }
  return server;
}

/** Learns who dialled and what for. @throws as certifiedPeer and askHello */
async function greet(
  data: DataSocket,
  socket: Socket,
  { self, clock, signal }: { readonly self: string; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Hello> {
  const peer = await certifiedPeer(socket, { expected: undefined, clock });
  if (peer !== undefined) data.peerId = peer;
  const hello = await askHello(data, { self, peer }, signal);
  data.peerId = hello.from;
  return hello;
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
    readonly receiveRegion: Uint8Array | undefined;
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
    const { clock = systemClock } = options;
    await certifiedPeer(socket, { expected: to.peerId, clock });
    const data = new DataSocket(socket, { peerId: to.peerId, receiver, clock });
    await sayHello(data, { from: options.peerId, to: to.peerId, purpose }, signal);
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
