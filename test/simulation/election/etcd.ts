import { RingfoldError } from "../../../protocol/errors.ts";
import type { World } from "../world/world.ts";

interface Entry {
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly lease: string | undefined;
}

interface Compare {
  readonly key: string;
  readonly target: "CREATE" | "MOD";
  readonly create_revision?: string;
  readonly mod_revision?: string;
}

interface Range {
  readonly key: string;
  readonly range_end?: string;
}

interface Operation {
  readonly request_put?: { readonly key: string; readonly value: string; readonly lease?: string };
  readonly request_delete_range?: { readonly key: string };
  readonly request_range?: Range;
}

export interface Transaction {
  readonly compare: readonly Compare[];
  readonly success: readonly Operation[];
  readonly failure: readonly Operation[];
}

/**
 * What three nodes of etcd are together, as its documentation promises: linearizable transactions, revisions that grow by one
 * with each change, leases that end when nobody renews them. Keys and values are base64, as over its JSON gateway.
 * Source: https://etcd.io/docs/v3.4/learning/api/ and .../api_guarantees/
 */
export class SimulatedEtcd {
  readonly #world: World;
  readonly #entries = new Map<string, Entry>();
  readonly #leases = new Map<string, { readonly ttlMs: number; cancel: () => void }>();
  #revision = 1;
  #leaseCount = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Values under a prefix, by what follows it. */
  values(prefix: string): Map<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    for (const [key, { value }] of this.#entries) {
      const name = text(key);
      if (name.startsWith(prefix))
        found.set(name.slice(prefix.length), Uint8Array.from(Buffer.from(value, "base64")));
    }
    return found;
  }

  /** Carries out one request, at one instant. @throws RingfoldError STORE_FAILED, refused */
  execute(path: string, body: object): unknown {
    switch (path) {
      case "lease/grant":
        return this.#grant(body as { TTL: number });
      case "lease/keepalive":
        return this.#renew(body as { ID: string });
      case "lease/revoke":
        this.#endLease((body as { ID: string }).ID);
        return {};
      case "kv/range":
        return { header: this.#header(), kvs: this.#range(body as Range) };
      case "kv/txn":
        return this.#transact(body as Transaction);
      case "kv/compaction":
        return { header: this.#header() }; // no reader of an old revision here
      default:
        throw new RingfoldError("STORE_FAILED", `etcd does not know ${path}`, { refused: true });
    }
  }

  #grant({ TTL }: { readonly TTL: number }): object {
    const ID = String(++this.#leaseCount);
    this.#leases.set(ID, { ttlMs: 1_000 * TTL, cancel: () => {} });
    this.#renew({ ID });
    return { ID, TTL: String(TTL) };
  }

  #renew({ ID }: { readonly ID: string }): object {
    const lease = this.#leases.get(ID);
    if (!lease) return { result: {} }; // zero is left out of JSON
    lease.cancel();
    lease.cancel = this.#world.scheduler.after(lease.ttlMs, () => this.#endLease(ID));
    return { result: { TTL: String(lease.ttlMs / 1_000) } };
  }

  #endLease(ID: string): void {
    this.#leases.get(ID)?.cancel();
    if (!this.#leases.delete(ID)) return;
    this.#world.trace(`etcd: lease ${ID} is over`);
    const owned = [...this.#entries].filter(([, { lease }]) => lease === ID);
    if (owned.length > 0) this.#revision++;
    for (const [key] of owned) this.#entries.delete(key);
  }

  #transact({ compare, success, failure }: Transaction): object {
    const succeeded = compare.every((condition) => this.#holds(condition));
    const operations = succeeded ? success : failure;
    const lease = operations.find(({ request_put: put }) => put?.lease !== undefined)?.request_put?.lease;
    if (lease !== undefined && !this.#leases.has(lease))
      throw new RingfoldError("STORE_FAILED", "etcdserver: requested lease not found", { refused: true });
    const changes = operations.some(({ request_range }) => !request_range);
    if (changes) this.#revision++;
    const responses = operations.map((operation) => this.#carryOut(operation));
    return { ...(succeeded ? { succeeded } : {}), header: this.#header(), responses };
  }

  #holds({ key, target, create_revision, mod_revision }: Compare): boolean {
    const entry = this.#entries.get(key);
    return target === "CREATE"
      ? String(entry?.createRevision ?? 0) === create_revision
      : String(entry?.modRevision ?? 0) === mod_revision;
  }

  #carryOut({ request_put: put, request_delete_range: remove, request_range: range }: Operation): object {
    if (range) return { response_range: { kvs: this.#range(range) } };
    if (remove) this.#entries.delete(remove.key);
    if (put)
      this.#entries.set(put.key, {
        value: put.value,
        createRevision: this.#entries.get(put.key)?.createRevision ?? this.#revision,
        modRevision: this.#revision,
        lease: put.lease,
      });
    return {};
  }

  #range({ key, range_end }: Range): object[] {
    const isIn = (candidate: string) =>
      range_end === undefined
        ? candidate === key
        : text(candidate) >= text(key) && text(candidate) < text(range_end);
    return [...this.#entries]
      .filter(([candidate]) => isIn(candidate))
      .sort(([one], [other]) => (text(one) < text(other) ? -1 : 1))
      .map(([name, { value, createRevision, modRevision, lease }]) => ({
        ...{ key: name, value, create_revision: String(createRevision), mod_revision: String(modRevision) },
        ...(lease === undefined ? {} : { lease }),
      }));
  }

  #header(): object {
    return { revision: String(this.#revision) };
  }
}

const text = (base64: string): string => Buffer.from(base64, "base64").toString();
