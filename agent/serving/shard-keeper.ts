import { canonicalDigest } from "../../protocol/attestation.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import {
  type InferShardRequest,
  inferShard,
  placeShards,
  type ShardReport,
} from "../../protocol/messages/serving.ts";
import type { Clock, ClusterNetwork, Log, RequestContext } from "../../protocol/ports.ts";
import { verifyVersion } from "../../protocol/provenance.ts";
import { verifyRegistration } from "../../protocol/registration.ts";
import type { ShardHost } from "./host/shard-host.ts";
import type { InferResult } from "./host/shard-host-messages.ts";
import {
  type AssignedShard,
  diffShards,
  type PlacementMessage,
  type PlacementTable,
} from "./placement-table.ts";
import { shardKey } from "./shard-key.ts";
import { type FetchArtefact, WeightsCache } from "./weights-cache.ts";

/** Before a shard that could not be loaded is tried again: its weights may be back with a peer that was away. */
const loadRetryMs = { first: 1_000, most: 60_000 } as const;
/** Before a report that the coordinator did not take is sent again. */
const reportRetryMs = { first: 500, most: 10_000 } as const;

export interface ShardKeeperModules {
  readonly network: ClusterNetwork;
  readonly host: Pick<ShardHost, "load" | "unload" | "infer" | "has" | "onLost">;
  readonly table: PlacementTable;
  readonly fetchArtefact: FetchArtefact;
  /** Tells the coordinator; may fail, and is then called again. */
  readonly report: (report: ShardReport) => Promise<void>;
  /** Only a coordinator places shards. */
  readonly isCoordinator: (peerId: string) => boolean;
  /** Key id of the cluster's authority. */
  readonly authority: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** One shard that this agent should host, on its way or there. */
interface KeptShard {
  readonly assigned: AssignedShard;
  /** Aborts when the shard is no longer wanted. */
  readonly stop: AbortController;
  /** The newest word for the coordinator; null while loading. */
  report: ShardReport | null;
  cancelTimers: (() => void)[];
}

/**
 * Makes the shards that are loaded here follow the placements: fetches, loads, reports, unloads. It also answers the
 * hops of other agents' predictions.
 */
export class ShardKeeper {
  readonly #modules: ShardKeeperModules;
  readonly #lifetime = new AbortController();
  readonly #weights: WeightsCache;
  readonly #kept = new Map<string, KeptShard>();
  /** Shards on their way out; each still answers requests that were routed here before. */
  readonly #leaving = new Map<string, () => void>();

  constructor(modules: ShardKeeperModules) {
    this.#modules = modules;
    this.#weights = new WeightsCache(modules.fetchArtefact, this.#lifetime.signal);
    modules.host.onLost((key, error) => this.#lost(key, error));
    modules.network.handle(placeShards, (message, context) => this.#place(message, context));
    modules.network.handle(inferShard, (request, context) => this.#infer(request, context));
  }

  /**
   * Takes a table over and starts what follows from it; returns before anything is loaded. Idempotent.
   * @throws RingfoldError STALE_TERM | MESSAGE_INVALID
   */
  apply(message: PlacementMessage): void {
    const { table, network, log } = this.#modules;
    if (this.#lifetime.signal.aborted || !table.apply(message)) return;
    const assigned = table.assignedTo(network.peerId);
    const { load, unload } = diffShards(assigned, this.#kept.keys());
    if (load.length + unload.length > 0) {
      log.info({ revision: message.revision, load: load.map(({ key }) => key), unload }, "Shards change");
    }
    for (const key of unload) this.#release(key);
    for (const shard of load) this.#keep(shard);
    for (const shard of assigned) this.#correctTable(shard);
  }

  close(): void {
    this.#lifetime.abort(new RingfoldError("CANCELLED", "the agent is closing"));
    for (const cancel of this.#leaving.values()) cancel();
    for (const kept of this.#kept.values()) stop(kept);
    this.#leaving.clear();
    this.#kept.clear();
    this.#weights.clear();
  }

  async #place(message: PlacementMessage, context: RequestContext): Promise<{ ok: true }> {
    if (!this.#modules.isCoordinator(context.from)) {
      throw new RingfoldError("NOT_A_MEMBER", `${context.from} is not a coordinator of this cluster`);
    }
    this.apply(message);
    return { ok: true };
  }

  async #infer(request: InferShardRequest, context: RequestContext): Promise<InferResult> {
    return await this.#modules.host.infer(shardKey(request), request.input, context.signal);
  }

  #keep(assigned: AssignedShard): void {
    const kept: KeptShard = { assigned, stop: new AbortController(), report: null, cancelTimers: [] };
    this.#kept.set(assigned.key, kept);
    this.#leaving.get(assigned.key)?.();
    this.#leaving.delete(assigned.key);
    void this.#load(kept, 0);
  }

  /** Never throws: what goes wrong is reported, and tried again later. */
  async #load(kept: KeptShard, failuresBefore: number): Promise<void> {
    const { host, log } = this.#modules;
    const { key, deployment, name, version, shardIndex, placement, shard } = kept.assigned;
    const { signal } = kept.stop;
    kept.report = null;
    try {
      const { manifest, attestation, registration } = placement;
      // Altered on the way or in the coordinator's store: then its weights, whose digest it names, are not to be trusted either.
      if (attestation) await verifyVersion(manifest, attestation);
      else log.info({ shard: key }, "Nobody has signed this version; it is of an earlier release");
      if (registration) {
        const numbered = { version, digest: canonicalDigest(manifest), manifest: { ...manifest, name } };
        await verifyRegistration(numbered, registration, { authority: this.#modules.authority });
      }
      const weights = await this.#weights.get(manifest.weights.digest, signal);
      const { fromLayer, toLayer } = shard;
      await host.load(
        { deployment, name, version, shardIndex, manifest, fromLayer, toLayer, weights },
        signal,
      );
      log.info({ shard: key, fromLayer, toLayer }, "Shard loaded");
      this.#say(kept, "ready", `layers ${fromLayer} to ${toLayer - 1}`);
    } catch (cause) {
      if (signal.aborted) return;
      this.#failed(kept, toRingfoldError(cause), failuresBefore);
    } finally {
      if ([...this.#kept.values()].every(({ report }) => report !== null)) this.#weights.clear();
    }
  }

  #failed(kept: KeptShard, error: RingfoldError, failuresBefore: number): void {
    const retryMs = Math.min(loadRetryMs.first * 2 ** failuresBefore, loadRetryMs.most);
    const { code, message } = error;
    this.#modules.log.warn({ shard: kept.assigned.key, code, reason: message, retryMs }, "Shard not loaded");
    this.#say(kept, "failed", `${code}: ${message}`);
    this.#later(kept, retryMs, () => void this.#load(kept, failuresBefore + 1));
  }

  #lost(key: string, error: RingfoldError): void {
    const kept = this.#kept.get(key);
    if (kept !== undefined) this.#failed(kept, error, 0);
  }

  /** Not at once: agents with the older table still send hops here, and those must not fail. */
  #release(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    stop(kept);
    this.#kept.delete(key);
    const { clock, host, log } = this.#modules;
    const cancel = clock.after(limits.predictTimeoutMs, () => {
      this.#leaving.delete(key);
      void host.unload(key).then(() => log.info({ shard: key }, "Shard unloaded"));
    });
    this.#leaving.set(key, cancel);
  }

  /** A coordinator that did not hear our report, or lost it, places us with the wrong readiness. */
  #correctTable({ key, shard }: AssignedShard): void {
    const kept = this.#kept.get(key);
    const placed = shard.replicas.find(({ peerId }) => peerId === this.#modules.network.peerId);
    if (kept?.report?.state === "ready" && placed?.ready === false) this.#send(kept, kept.report, 0);
  }

  #say(kept: KeptShard, state: ShardReport["state"], detail: string): void {
    const { deployment, name, version, shardIndex } = kept.assigned;
    kept.report = { deployment, name, version, shardIndex, state, detail: detail.slice(0, 2_000) };
    this.#send(kept, kept.report, 0);
  }

  /** Until it is taken, or there is newer word, or the shard is no longer ours. */
  #send(kept: KeptShard, report: ShardReport, failuresBefore: number): void {
    this.#modules.report(report).catch((cause: unknown) => {
      if (kept.stop.signal.aborted || kept.report !== report) return;
      const retryMs = Math.min(reportRetryMs.first * 2 ** failuresBefore, reportRetryMs.most);
      const { code, message } = toRingfoldError(cause);
      this.#modules.log.debug(
        { shard: kept.assigned.key, code, reason: message, retryMs },
        "Report not taken",
      );
      this.#later(kept, retryMs, () => {
        if (kept.report === report) this.#send(kept, report, failuresBefore + 1);
      });
    });
  }

  #later(kept: KeptShard, delayMs: number, act: () => void): void {
    const cancel = this.#modules.clock.after(delayMs, () => {
      kept.cancelTimers = kept.cancelTimers.filter((other) => other !== cancel);
      act();
    });
    kept.cancelTimers.push(cancel);
  }
}

function stop(kept: KeptShard): void {
  for (const cancel of kept.cancelTimers) cancel();
  kept.cancelTimers = [];
  kept.stop.abort(new RingfoldError("CANCELLED", `shard ${kept.assigned.key} is no longer placed here`));
}
