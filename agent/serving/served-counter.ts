import { LatencyRecorder } from "../../protocol/latency-histogram.ts";
import { limits } from "../../protocol/limits.ts";
import type { Served } from "../../protocol/messages/served.ts";
import type { PlacementTable } from "./placement-table.ts";

interface Counted {
  requests: number;
  readonly errors: Map<string, number>;
  readonly latency: LatencyRecorder;
}

/**
 * What this gateway has answered by each deployment, since it began: sums that only grow, so that a beat that is lost takes nothing
 * with it. A deployment is forgotten when no table names it any more; its number is never used again.
 */
export class ServedCounter {
  readonly #table: PlacementTable;
  readonly #counted = new Map<number, Counted>();
  #turn = 0;

  constructor(table: PlacementTable) {
    this.#table = table;
  }

  answered(deployment: number, latencyMs: number): void {
    const counted = this.#of(deployment);
    counted.requests++;
    counted.latency.add(latencyMs);
  }

  failed(deployment: number, code: string): void {
    const counted = this.#of(deployment);
    counted.requests++;
    counted.errors.set(code, (counted.errors.get(code) ?? 0) + 1);
  }

  /** Of both sides of each rollout, by turns where there are more than a beat holds; nothing where there is none. */
  told(): Served[] {
    for (const deployment of this.#counted.keys())
      if (!this.#table.current(deployment)) this.#counted.delete(deployment);
    const sides = this.#table.live().flatMap((live) => {
      const candidate = this.#table.candidate(live.name);
      return candidate ? [candidate.deployment, live.deployment] : [];
    });
    const first = sides.length > limits.servedTold ? (this.#turn++ * limits.servedTold) % sides.length : 0;
    return [...sides.slice(first), ...sides.slice(0, first)].slice(0, limits.servedTold).map((deployment) => {
      const { requests, errors, latency } = this.#of(deployment);
      return { deployment, requests, errors: Object.fromEntries(errors), latency: latency.histogram };
    });
  }

  #of(deployment: number): Counted {
    const counted = this.#counted.get(deployment) ?? {
      ...{ requests: 0, errors: new Map(), latency: new LatencyRecorder() },
    };
    this.#counted.set(deployment, counted);
    return counted;
  }
}
