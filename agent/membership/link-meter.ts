import { limits } from "../../protocol/limits.ts";
import { type MeasuredLink, probeLink } from "../../protocol/messages/link.ts";
import type { Clock, ClusterNetwork, Log } from "../../protocol/ports.ts";

export interface LinkMeterModules {
  readonly network: ClusterNetwork;
  readonly clock: Clock;
  readonly log: Log;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Not worth measuring: the coordinator is on no ring. */
  readonly except: string;
}

/** A busy end makes a link look slow, never fast: of the last few samples the best counts (as BBR estimates a path). */
const samplesKept = 3;
const smallProbes = 3;
const smallBytes = 64;
/** A transfer shorter than this says more about our event loop than about the link. */
const shortestTransferMs = 1;

/**
 * Measures the links to other members in the background, one at a time: latency r as half of the quickest of three small
 * round trips, bandwidth 1/k from a large one. It goes through libp2p, whose own ceiling (some 50 MB/s here) hides
 * differences between faster links; a ring is held up by slower ones.
 *
 * Cost: one probe of 256 KiB every `limits.linkProbeIntervalMs`.
 */
export class LinkMeter {
  readonly #modules: LinkMeterModules;
  readonly #samples = new Map<string, MeasuredLink[]>();
  readonly #closed = new AbortController();
  #cancelTimer: (() => void) | undefined;
  #next = 0;

  constructor(modules: LinkMeterModules) {
    this.#modules = modules;
    modules.network.handle(probeLink, async ({ bytes }) => ({ payload: new Uint8Array(bytes) }));
  }

  start(): void {
    this.#cancelTimer ??= this.#modules.clock.after(limits.linkProbeFirstMs, () => void this.#measureNext());
  }

  /** Links to members that are connected now. */
  links(): MeasuredLink[] {
    const connected = new Set(this.#modules.network.connectedPeers());
    for (const peerId of this.#samples.keys()) if (!connected.has(peerId)) this.#samples.delete(peerId);
    return [...this.#samples.values()].map(bestOf).slice(0, limits.linksTold);
  }

  close(): void {
    this.#closed.abort();
    this.#cancelTimer?.();
  }

  async #measureNext(): Promise<void> {
    const { network, clock, log, except } = this.#modules;
    const peers = network.connectedPeers().filter((peerId) => peerId !== except);
    const peerId = peers[this.#next++ % Math.max(1, peers.length)];
    if (peerId !== undefined) {
      await this.#measure(peerId).catch((error) =>
        log.debug({ err: error, peer: peerId }, "A link was not measured"),
      );
    }
    if (this.#closed.signal.aborted) return;
    // Members that nothing is known of come first; after that a link is looked at now and then.
    const unknown = peers.some((other) => (this.#samples.get(other)?.length ?? 0) < samplesKept);
    const delayMs = unknown ? limits.linkProbeFirstMs : limits.linkProbeIntervalMs;
    this.#cancelTimer = clock.after(delayMs, () => void this.#measureNext());
  }

  async #measure(peerId: string): Promise<void> {
    const trips: number[] = [];
    for (let i = 0; i < smallProbes; i++) trips.push(await this.#roundTripMs(peerId, smallBytes));
    const roundTripMs = Math.min(...trips);
    const largeMs = await this.#roundTripMs(peerId, limits.linkProbeBytes);
    const transferMs = Math.max(shortestTransferMs, largeMs - roundTripMs);
    const bytesPerSecond = (1_000 * (limits.linkProbeBytes - smallBytes)) / transferMs;
    const sample = { peerId, latencyMs: roundTripMs / 2, bytesPerSecond };
    this.#samples.set(peerId, [...(this.#samples.get(peerId) ?? []), sample].slice(-samplesKept));
  }

  async #roundTripMs(peerId: string, bytes: number): Promise<number> {
    const { network, nowMs } = this.#modules;
    const startedAtMs = nowMs();
    await network.request(peerId, probeLink, { bytes }, { signal: this.#closed.signal });
    return nowMs() - startedAtMs;
  }
}

const bestOf = (samples: readonly MeasuredLink[]): MeasuredLink => ({
  peerId: samples[0]!.peerId,
  latencyMs: Math.min(...samples.map(({ latencyMs }) => latencyMs)),
  bytesPerSecond: Math.max(...samples.map(({ bytesPerSecond }) => bytesPerSecond)),
});
