import type { Served, ServedCounts } from "../protocol/messages/served.ts";
import { addServed, nothingServed, servedSince } from "./decide/served-counts.ts";

/** The last word of one gateway on one deployment. */
interface Told {
  readonly incarnation: string;
  readonly latest: ServedCounts;
}

interface Window {
  total: ServedCounts;
  readonly told: Map<string, Told>;
}

/**
 * What all gateways have answered since a window began, by deployment. Gateways tell sums that only grow within one life of theirs, so
 * beats may be lost or doubled. Kept in memory: after a restart of the coordinator the windows begin anew, with what each
 * gateway tells first.
 *
 * Cost: a beat costs one addition of two histograms, and asking nothing.
 */
export class ServedEvidence {
  readonly #windows = new Map<number, Window>();

  /**
   * From now on, for these. What was answered since a gateway's last beat comes into the new window too, a second of it at
   * most, unless the window is `strict`: then each gateway's next beat is where it begins.
   */
  begin(deployments: readonly number[], { strict = false } = {}): void {
    for (const deployment of deployments) {
      const told = (strict ? undefined : this.#windows.get(deployment)?.told) ?? new Map<string, Told>();
      this.#windows.set(deployment, { total: nothingServed, told });
    }
  }

  end(deployments: readonly number[]): void {
    for (const deployment of deployments) this.#windows.delete(deployment);
  }

  /** Beats of one life come in order here: the peer table drops older ones. */
  hear(peerId: string, incarnation: string, served: readonly Served[]): void {
    for (const { deployment, ...latest } of served) {
      const window = this.#windows.get(deployment);
      if (!window) continue;
      const known = window.told.get(peerId);
      window.told.set(peerId, { incarnation, latest });
      // Of a gateway that we meet we do not know since when it counts; a new life of one has begun with nothing.
      if (!known) continue;
      const before = known.incarnation === incarnation ? known.latest : nothingServed;
      window.total = addServed(window.total, servedSince(latest, before));
    }
  }

  /** The peer is gone; what it has answered stays. */
  forget(peerId: string): void {
    for (const { told } of this.#windows.values()) told.delete(peerId);
  }

  /** Of all gateways in the present window. */
  of(deployment: number): ServedCounts {
    return this.#windows.get(deployment)?.total ?? nothingServed;
  }
}
