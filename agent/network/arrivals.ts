import { RingfoldError } from "../../protocol/errors.ts";
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
  readonly #waiting = new Map<string, Socket>();
  readonly #acceptors = new Map<string, (socket: Socket) => void>();
  readonly #handlers = new Map<Purpose["kind"], (socket: Socket, purpose: Purpose) => Promise<void>>();

  serve(kind: Purpose["kind"], handler: (socket: Socket, purpose: Purpose) => Promise<void>): void {
    this.#handlers.set(kind, handler);
  }

  handlerOf(kind: Purpose["kind"]): ((socket: Socket, purpose: Purpose) => Promise<void>) | undefined {
    return this.#handlers.get(kind);
  }

  /** Takes a socket that no handler serves; one that nobody may want is destroyed. */
  arrive(socket: Socket, from: string, purpose: Purpose): void {
    const id = key(from, purpose);
    const acceptor = this.#acceptors.get(id);
    if (acceptor) return acceptor(socket);
    if (this.#waiting.size >= waitingMax && !this.#waiting.has(id)) return socket.destroy();
    const earlier = this.#waiting.get(id);
    this.#waiting.set(id, socket);
    earlier?.destroy();
  }

  /** The socket closed while it waited. A later one for the same purpose stays. */
  forget(socket: Socket, from: string, purpose: Purpose): void {
    const id = key(from, purpose);
    if (this.#waiting.get(id) === socket) this.#waiting.delete(id);
  }

  /** Resolves when `from` has dialled for exactly this purpose. @throws RingfoldError REQUEST_TIMEOUT */
  async accept(from: string, purpose: Purpose, signal: AbortSignal): Promise<Socket> {
    const id = key(from, purpose);
    const socket = this.#waiting.get(id) ?? (await this.#next(id, from, signal));
    this.#waiting.delete(id);
    return socket;
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
        resolve(socket);
      });
    });
  }
}

const key = (from: string, { kind, jobId, generation }: Purpose): string =>
  `${kind}/${jobId}/${generation}/${from}`;
