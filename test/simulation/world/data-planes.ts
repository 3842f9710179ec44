import { Admission } from "../../../agent/network/data-plane/admission.ts";
import { Arrivals, type Purpose } from "../../../agent/network/data-plane/arrivals.ts";
import type { DataPlane } from "../../../agent/network/data-plane/data-plane.ts";
import { frameBytes } from "../../../agent/network/data-plane/frame-format.ts";
import type { Frame, FrameSocket } from "../../../agent/network/data-plane/frame-socket.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Life } from "./scheduler.ts";
import type { Wire } from "./wire.ts";
import type { World } from "./world.ts";

interface Listener {
  readonly peerId: string;
  readonly life: Life;
  readonly sockets: Set<SimulatedSocket>;
  readonly greet: (socket: SimulatedSocket, purpose: Purpose, acknowledge: () => void) => void;
}

/** The data planes of all trainers: listeners by port, dialled sockets, and the real matching of dials to accepts. */
export class SimulatedDataPlanes {
  readonly #world: World;
  readonly #wire: Wire;
  readonly #listeners = new Map<number, Listener>();
  #nextPort = 20_000;

  constructor(world: World, wire: Wire) {
    this.#world = world;
    this.#wire = wire;
  }

  open(peerId: string, life: Life): DataPlane & { crash(): void } {
    const arrivals = new Arrivals<SimulatedSocket>();
    const admission = new Admission();
    const acknowledgements = new Map<SimulatedSocket, () => void>();
    const closed = new AbortController();
    const port = this.#nextPort++;
    const listener: Listener = {
      ...{ peerId, life },
      sockets: new Set(),
      greet: (socket, purpose, acknowledge) => {
        admission
          .admitted(socket.peerId, purpose, closed.signal)
          .then(() => letIn(socket, purpose, acknowledge))
          .catch(() => socket.destroy());
      },
    };
    const letIn = (socket: SimulatedSocket, purpose: Purpose, acknowledge: () => void) => {
      const handler = arrivals.handlerOf(purpose.kind);
      if (handler) {
        acknowledge();
        handler(socket, purpose).catch(() => socket.destroy());
        return;
      }
      acknowledgements.set(socket, acknowledge);
      socket.onClose = () => arrivals.forget(socket, socket.peerId, purpose);
      arrivals.arrive(socket, socket.peerId, purpose);
    };
    this.#listeners.set(port, listener);
    const crash = () => {
      this.#listeners.delete(port);
      for (const socket of [...listener.sockets]) socket.destroy();
    };
    return {
      port,
      crash,
      // Strangers are for the contract tests of the real plane: everyone in a simulation has a plan.
      admit: (plan) => {
        admission.admit(plan);
        for (const socket of arrivals.takeOlder(plan)) socket.destroy();
      },
      dial: (to, purpose, signal) =>
        this.#dial(listener, to, purpose, AbortSignal.any([signal, closed.signal])),
      accept: async (from, purpose, signal) => {
        const socket = await arrivals.accept(from, purpose, AbortSignal.any([signal, closed.signal]));
        acknowledgements.get(socket)?.();
        acknowledgements.delete(socket);
        return socket;
      },
      serve: (kind, handler) => arrivals.serve(kind, handler),
      close: async () => {
        closed.abort();
        crash();
      },
    };
  }

  async #dial(
    self: Listener,
    to: { readonly peerId: string; readonly port: number },
    purpose: Purpose,
    signal: AbortSignal,
  ): Promise<FrameSocket> {
    const answered = Promise.withResolvers<FrameSocket>();
    const ends = { from: self.peerId, to: to.peerId };
    const ours = new SimulatedSocket(this.#world, this.#wire, self, to.peerId);
    const onAbort = () =>
      answered.reject(new RingfoldError("REQUEST_TIMEOUT", `${to.peerId} did not answer in time`));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    ours.onClose = () =>
      answered.reject(
        new RingfoldError("RING_BROKEN", `the link to ${to.peerId} closed`, { peer: to.peerId }),
      );
    this.#wire.carry("data", ends, () => {
      const listener = this.#listeners.get(to.port);
      if (!listener?.life.alive) {
        this.#wire.carry("data", { from: ends.to, to: ends.from }, () =>
          answered.reject(
            new RingfoldError("PEER_UNREACHABLE", `cannot reach ${to.peerId}`, { peer: to.peerId }),
          ),
        );
        return;
      }
      if (ours.isClosed) return;
      const theirs = new SimulatedSocket(this.#world, this.#wire, listener, self.peerId);
      ours.plug(theirs);
      theirs.plug(ours);
      listener.greet(theirs, purpose, () =>
        this.#wire.carry("data", { from: ends.to, to: ends.from }, () => answered.resolve(ours)),
      );
    });
    try {
      const socket = await answered.promise;
      ours.onClose = () => {};
      return socket;
    } catch (cause) {
      ours.destroy();
      throw cause;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}

/** One end of a data connection; behaves as agent/network/data-socket.ts does over TCP. */
class SimulatedSocket implements FrameSocket {
  readonly peerId: string;
  onClose: () => void = () => {};
  readonly #world: World;
  readonly #owner: Listener;
  #other: SimulatedSocket | undefined;
  hopTimeoutMs: number = limits.hopTimeoutMs;
  readonly #closing = new AbortController();
  readonly #received: Frame[] = [];
  #payload: Uint8Array = new Uint8Array(0);
  #pendingWrites = 0;
  bytesSent = 0;
  bytesReceived = 0;
  #writtenAtMs = 0;
  readonly #stream: (deliver: () => void) => void;
  #closed: RingfoldError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  constructor(world: World, wire: Wire, owner: Listener, peerId: string) {
    this.#world = world;
    this.#owner = owner;
    this.#stream = wire.stream("data", { from: owner.peerId, to: peerId });
    this.peerId = peerId;
    owner.sockets.add(this);
  }

  get pendingCount(): number {
    return this.#pendingWrites;
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  plug(other: SimulatedSocket): void {
    this.#other = other;
  }

  /** The bytes leave later: whoever changes the payload before `drained` sends what it has become. */
  send(frame: Frame): void {
    if (this.#closed) return;
    this.#pendingWrites++;
    this.bytesSent += frameBytes(frame.payload.length);
    this.#onWritten(() => {
      this.#pendingWrites--;
      const copy = { ...frame, payload: frame.payload.slice() };
      this.#transmit((other) => other.#push(copy));
      this.#wakeWriter?.();
    });
  }

  async receive(signal: AbortSignal): Promise<Frame> {
    await this.#until(() => this.#received.length > 0, "reader", signal);
    const frame = this.#received.shift()!;
    // The last frame's payload is not valid any more, and whoever still reads it shall notice.
    this.#payload.fill(0xff);
    this.#payload = frame.payload;
    return frame;
  }

  async drained(signal: AbortSignal, pendingMax = 0): Promise<void> {
    await this.#until(() => this.#pendingWrites <= pendingMax, "writer", signal);
  }

  end(): void {
    if (!this.#closed) this.#onWritten(() => this.#transmit((other) => other.#close()));
  }

  destroy(): void {
    if (!this.#closed) this.#transmit((other) => other.#close());
    this.#close();
  }

  #onWritten(written: () => void): void {
    const { scheduler, random } = this.#world;
    this.#writtenAtMs = Math.max(this.#writtenAtMs + 1e-3, scheduler.nowMs + random.skewed(0, 0.5));
    scheduler.after(this.#writtenAtMs - scheduler.nowMs, () => {
      if (!this.#closed) written();
    });
  }

  #transmit(deliver: (other: SimulatedSocket) => void): void {
    const other = this.#other;
    if (!other) return;
    this.#stream(() => {
      if (other.#owner.life.alive) deliver(other);
    });
  }

  #push(frame: Frame): void {
    if (this.#closed) return;
    this.bytesReceived += frameBytes(frame.payload.length);
    this.#received.push(frame);
    this.#wakeReader?.();
  }

  async #until(condition: () => boolean, side: "reader" | "writer", signal: AbortSignal): Promise<void> {
    if (condition()) return;
    let timedOut = false;
    const wake = () => (side === "reader" ? this.#wakeReader?.() : this.#wakeWriter?.());
    const cancelTimer = this.#owner.life.after(this.hopTimeoutMs, () => {
      timedOut = true;
      wake();
    });
    signal.addEventListener("abort", wake);
    try {
      while (!condition()) {
        if (this.#closed) throw this.#closed;
        if (signal.aborted) throw new RingfoldError("CANCELLED", "the wait was cancelled");
        if (timedOut) throw new RingfoldError("HOP_TIMEOUT", `${this.peerId} stalled`, { peer: this.peerId });
        await new Promise<void>((resolve) => {
          if (side === "reader") this.#wakeReader = resolve;
          else this.#wakeWriter = resolve;
        });
      }
    } finally {
      cancelTimer();
      signal.removeEventListener("abort", wake);
      if (side === "reader") this.#wakeReader = undefined;
      else this.#wakeWriter = undefined;
    }
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = new RingfoldError("RING_BROKEN", `the link to ${this.peerId} closed`, {
      peer: this.peerId,
    });
    this.#owner.sockets.delete(this);
    this.#closing.abort(this.#closed);
    this.onClose();
    this.#wakeReader?.();
    this.#wakeWriter?.();
  }
}
