import { RingfoldError } from "../../../protocol/errors.ts";
import type { FrameSocket } from "./frame-socket.ts";

/** What a data connection is for; both ends must mean the same. */
export interface Purpose {
  readonly kind: "ring" | "heal";
  readonly jobId: string;
  readonly generation: number;
}

/** Dials that came before the plan that explains them. */
const waitingMax = 64;

/** Brings dials that arrived together with those who wait for them, whichever came first. */
export class Arrivals<Socket extends FrameSocket> {
  readonly #waiting = new Map<string, { readonly socket: Socket; readonly purpose: Purpose }>();
  readonly #acceptors = new Map<string, (socket: Socket) => void>();
  readonly #handlers = new Map<Purpose["kind"], (socket: Socket, purpose: Purpose) => Promise<void>>();
  /** Links that were handed out and have not closed. */
  readonly #inUse = new Map<string, Socket>();

  serve(kind: Purpose["kind"], handler: (socket: Socket, purpose: Purpose) => Promise<void>): void {
    this.#handlers.set(kind, handler);
  }

  handlerOf(kind: Purpose["kind"]): ((socket: Socket, purpose: Purpose) => Promise<void>) | undefined {
    return this.#handlers.get(kind);
  }

  /**
   * Takes a socket that no handler serves. Of two that wait the later counts, as the peer gave the earlier one up; a link
   * in use stays.
   * @throws RingfoldError DUPLICATE_IDENTITY | OVERLOADED for one that nobody may want
   */
  arrive(socket: Socket, from: string, purpose: Purpose): void {
    const id = key(from, purpose);
    if (this.#inUse.has(id)) {
      throw new RingfoldError("DUPLICATE_IDENTITY", `${from} has this link already`, { peer: from });
    }
    const acceptor = this.#acceptors.get(id);
    if (acceptor) return acceptor(socket);
    if (this.#waiting.size >= waitingMax && !this.#waiting.has(id)) {
      throw new RingfoldError("OVERLOADED", "too many links that nobody asked for", { peer: from });
    }
    const earlier = this.#waiting.get(id);
    this.#waiting.set(id, { socket, purpose });
    earlier?.socket.destroy();
  }

  /** The socket closed. A later one for the same purpose stays. */
  forget(socket: Socket, from: string, purpose: Purpose): void {
    const id = key(from, purpose);
    if (this.#waiting.get(id)?.socket === socket) this.#waiting.delete(id);
    if (this.#inUse.get(id) === socket) this.#inUse.delete(id);
  }

  /** Resolves when `from` has dialled for exactly this purpose. @throws RingfoldError REQUEST_TIMEOUT */
  async accept(from: string, purpose: Purpose, signal: AbortSignal): Promise<Socket> {
    const id = key(from, purpose);
    const waiting = this.#waiting.get(id);
    if (!waiting) return this.#next(id, from, signal);
    this.#waiting.delete(id);
    this.#inUse.set(id, waiting.socket);
    return waiting.socket;
  }

  /** Those that wait for an older generation of this job: nobody will ask for them any more. */
  takeOlder({ jobId, generation }: Pick<Purpose, "jobId" | "generation">): Socket[] {
    const older = [...this.#waiting].filter(
      ([, { purpose }]) => purpose.jobId === jobId && purpose.generation < generation,
    );
    for (const [id] of older) this.#waiting.delete(id);
    return older.map(([, { socket }]) => socket);
  }

  #next(id: string, from: string, signal: AbortSignal): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#acceptors.delete(id);
        reject(new RingfoldError("REQUEST_TIMEOUT", `${from} did not dial in time`, { peer: from }));
      };
      if (signal.aborted) return onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      this.#acceptors.set(id, (socket) => {
        this.#acceptors.delete(id);
        signal.removeEventListener("abort", onAbort);
        this.#inUse.set(id, socket);
        resolve(socket);
      });
    });
  }
}

const key = (from: string, { kind, jobId, generation }: Purpose): string =>
  `${kind}/${jobId}/${generation}/${from}`;
