import type { World } from "./world.ts";

/** What the links between machines do at the moment. */
export interface Weather {
  /** One way, milliseconds. */
  readonly latencyMs: { readonly min: number; readonly max: number };
  /** Share of requests that fail, half of them after they were obeyed. */
  readonly requestLoss: number;
  readonly gossipLoss: number;
  /** Share of commands and reports that arrive twice. */
  readonly duplication: number;
}

export const calm: Weather = {
  latencyMs: { min: 0.1, max: 2 },
  requestLoss: 0,
  gossipLoss: 0,
  duplication: 0,
};

/** The control plane (libp2p) and the data plane (ring and healing) can fail apart: other ports, other sockets. */
export type Plane = "control" | "data";

/** TCP sends again what a cut swallowed, after a pause that grew with the length of the cut. */
const retransmissionMs = 1_500;

export interface Ends {
  readonly from: string;
  readonly to: string;
}

/** The cables between all machines: latency, weather and partitions of both planes. */
export class Wire {
  readonly #world: World;
  readonly #isolated: Record<Plane, Set<string>> = { control: new Set(), data: new Set() };
  readonly #lastCutMs = new Map<string, number>();
  #onHeal: (() => void)[] = [];
  weather: Weather = calm;

  constructor(world: World) {
    this.#world = world;
  }

  latencyMs(): number {
    const { min, max } = this.weather.latencyMs;
    return this.#world.random.skewed(min, max);
  }

  isCut(plane: Plane, a: string, b: string): boolean {
    return a !== b && (this.#isolated[plane].has(a) || this.#isolated[plane].has(b));
  }

  /** When the control plane of a machine was last cut, in virtual milliseconds since the beginning; never: -1. */
  lastCutMs(peerId: string): number {
    if (this.#isolated.control.has(peerId)) return this.#world.elapsedMs;
    return this.#lastCutMs.get(peerId) ?? -1;
  }

  isolate(peerId: string, planes: readonly Plane[]): void {
    for (const plane of planes) this.#isolated[plane].add(peerId);
  }

  /** Mends what was cut; what waited on the cables goes on its way. */
  heal(peerId: string): void {
    if (this.#isolated.control.delete(peerId)) this.#lastCutMs.set(peerId, this.#world.elapsedMs);
    this.#isolated.data.delete(peerId);
    for (const mended of this.#onHeal.splice(0)) mended();
  }

  /**
   * Carries something across: after the latency, and, like TCP, not before a cut between the two is mended.
   * `deliver` must check by itself that the receiver is still there.
   */
  carry(plane: Plane, ends: Ends, deliver: () => void): void {
    const { scheduler, random } = this.#world;
    scheduler.after(this.latencyMs(), () => {
      if (!this.isCut(plane, ends.from, ends.to)) return deliver();
      this.#onHeal.push(() =>
        scheduler.after(random.skewed(0, retransmissionMs), () => this.carry(plane, ends, deliver)),
      );
    });
  }

  /** One direction of a socket: as `carry`, in order. */
  stream(plane: Plane, ends: Ends): (deliver: () => void) => void {
    const { scheduler } = this.#world;
    const underWay: (() => void)[] = [];
    let arrivesAtMs = 0;
    let waits = false;
    const arrive = () => {
      if (!this.isCut(plane, ends.from, ends.to)) return underWay.shift()?.();
      if (waits) return;
      waits = true;
      this.#onHeal.push(() => {
        waits = false;
        for (const _ of underWay) scheduler.after(this.latencyMs(), arrive);
      });
    };
    return (deliver) => {
      underWay.push(deliver);
      arrivesAtMs = Math.max(scheduler.nowMs + this.latencyMs(), arrivesAtMs + 1e-3);
      scheduler.after(arrivesAtMs - scheduler.nowMs, arrive);
    };
  }
}
