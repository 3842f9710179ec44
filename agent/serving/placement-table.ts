import type { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Placement, placeShards, Shard } from "../../protocol/messages/serving.ts";
import { type ShardId, shardKey } from "./shard-key.ts";

export type PlacementMessage = z.infer<(typeof placeShards)["request"]>;

/** A shard that a placement gives to this peer. */
export interface AssignedShard extends ShardId {
  readonly key: string;
  readonly placement: Placement;
  readonly shard: Shard;
}

/**
 * What the coordinator decided last, kept in memory so that predictions go on without a coordinator. Messages may come
 * late, twice or from a deposed coordinator; only a newer (term, revision) changes anything.
 */
export class PlacementTable {
  #term = -1;
  #revision = -1;
  #placements: readonly Placement[] = [];
  #next = Promise.withResolvers<void>();

  /**
   * Takes a newer table over, whole. Returns false when it is not newer than the one held.
   * @throws RingfoldError STALE_TERM from a deposed coordinator | MESSAGE_INVALID when shards do not cover their model
   */
  apply(message: PlacementMessage): boolean {
    if (message.term < this.#term) {
      throw new RingfoldError("STALE_TERM", `placements of term ${message.term}, but term is ${this.#term}`, {
        term: this.#term,
      });
    }
    if (message.term === this.#term && message.revision <= this.#revision) return false;
    const placements = message.placements.map(inOrder);
    this.#term = message.term;
    this.#revision = message.revision;
    this.#placements = placements;
    this.#next.resolve();
    this.#next = Promise.withResolvers();
    return true;
  }

  /** Resolves when a newer table than the present one comes. */
  changed(): Promise<void> {
    return this.#next.promise;
  }

  /** True once any table came: until then an unknown model may only be unknown here. */
  get known(): boolean {
    return this.#term >= 0;
  }

  /** The live version of a model, or by its number the candidate of a rollout; undefined when another version is deployed, or none. */
  find(name: string, version?: number): Placement | undefined {
    const live = this.#placements.find((placement) => placement.name === name && placement.live);
    return version === undefined
      ? live
      : [live, this.candidate(name)].find((one) => one?.version === version);
  }

  /** The version that is being rolled out beside the live one. */
  candidate(name: string): Placement | undefined {
    return this.#placements.find((placement) => placement.name === name && placement.weight !== undefined);
  }

  /** A deployment that was current when a request came, as it is now. */
  current(deployment: number): Placement | undefined {
    return this.#placements.find((placement) => placement.deployment === deployment);
  }

  live(): Placement[] {
    return this.#placements.filter((placement) => placement.live);
  }

  /** The shards that should be loaded on this peer. */
  assignedTo(peerId: string): AssignedShard[] {
    return this.#placements.flatMap((placement) =>
      placement.shards
        .filter((shard) => shard.replicas.some((replica) => replica.peerId === peerId))
        .map((shard) => {
          const { deployment, name, version } = placement;
          const id = { deployment, name, version, shardIndex: shard.shardIndex };
          return { ...id, key: shardKey(id), placement, shard };
        }),
    );
  }
}

/** What has to change on a peer. Keys that stay are in neither list. */
export function diffShards(
  assigned: readonly AssignedShard[],
  heldKeys: Iterable<string>,
): { load: AssignedShard[]; unload: string[] } {
  const held = new Set(heldKeys);
  const wantedKeys = new Set(assigned.map(({ key }) => key));
  return {
    load: assigned.filter(({ key }) => !held.has(key)),
    unload: [...held].filter((key) => !wantedKeys.has(key)),
  };
}

/** Shard indices of which no replica is ready: empty when a placement can answer. */
export const missingShards = (placement: Placement): number[] =>
  placement.shards
    .filter(({ replicas }) => !replicas.some(({ ready }) => ready))
    .map(({ shardIndex }) => shardIndex);

/** Shards sorted by index; they must cover all layers once, or a prediction would skip or repeat some. */
function inOrder(placement: Placement): Placement {
  const shards = placement.shards.toSorted((a, b) => a.shardIndex - b.shardIndex);
  let nextLayer = 0;
  for (const [index, shard] of shards.entries()) {
    if (shard.shardIndex !== index || shard.fromLayer !== nextLayer || shard.toLayer <= shard.fromLayer) {
      throw gap(placement, `shard ${index} does not start at layer ${nextLayer}`);
    }
    nextLayer = shard.toLayer;
  }
  const layerCount = placement.manifest.model.layers.length;
  if (nextLayer !== layerCount) throw gap(placement, `they cover ${nextLayer} of ${layerCount} layers`);
  return { ...placement, shards };
}

const gap = (placement: Placement, detail: string): RingfoldError =>
  new RingfoldError("MESSAGE_INVALID", `shards of ${placement.name}@${placement.version}: ${detail}`, {
    name: placement.name,
    version: placement.version,
  });
