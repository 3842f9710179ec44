import { type ArtefactStore, type NamedReference, sha256 } from "../../../agent/artefact/store.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Store, StoreWrite } from "../../../protocol/ports.ts";
import type { Life } from "./scheduler.ts";
import type { World } from "./world.ts";

/** Where in a write the coordinator is to die. */
export type CrashPoint = "before the write" | "before the acknowledgement" | "after the end of a job";

/**
 * The coordinator's disk. A write is applied whole or not at all, later than it was asked for and earlier than it is
 * acknowledged; a process that ends in between never hears.
 */
export class CoordinatorDisk {
  readonly #world: World;
  readonly #entries = new Map<string, Uint8Array>();
  /** Called after each write that was applied. */
  onApplied: (writes: readonly StoreWrite[]) => void = () => {};
  /** So many of the next writes fail and change nothing. */
  failures = 0;
  #crash: { readonly point: CrashPoint; readonly crash: () => void } | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  /** Calls `crash` at this point of the next write. */
  crashAt(point: CrashPoint, crash: () => void): void {
    this.#crash = { point, crash };
  }

  get(key: string): Uint8Array | undefined {
    return this.#entries.get(key);
  }

  keys(prefix: string): string[] {
    const keys = [...this.#entries.keys()].filter((key) => key.startsWith(prefix));
    return keys.sort((a, b) => (a < b ? -1 : 1));
  }

  list(prefix: string): { readonly key: string; readonly value: Uint8Array }[] {
    return this.keys(prefix).map((key) => ({ key, value: this.#entries.get(key)! }));
  }

  open(life: Life): Store {
    const { random } = this.#world;
    return {
      get: (key) => this.get(key),
      list: (prefix) => this.list(prefix),
      write: async (writes) => {
        await life.pause(random.skewed(0.2, 12));
        if (this.failures > 0) {
          this.failures--;
          throw new RingfoldError("STORE_FAILED", "no space left on the simulated device");
        }
        this.#crashIf("before the write");
        if (!life.alive) return life.pause(0);
        for (const { key, value } of writes) {
          if (value === undefined) this.#entries.delete(key);
          else this.#entries.set(key, value.slice());
        }
        this.onApplied(writes);
        this.#crashIf("before the acknowledgement");
        if (writes.some(({ key }) => key.startsWith("curve/"))) this.#crashIf("after the end of a job");
        await life.pause(random.skewed(0, 4));
      },
      close: async () => {},
    };
  }

  #crashIf(point: CrashPoint): void {
    if (this.#crash?.point !== point) return;
    const { crash } = this.#crash;
    this.#crash = undefined;
    crash();
  }
}

/** An agent's artefacts: they outlive its processes; writes under way when a process ends are lost. */
export class ArtefactDisk {
  readonly #world: World;
  readonly #artefacts = new Map<string, Uint8Array>();
  readonly #names = new Map<string, NamedReference>();
  readonly #changes: { digest: string; held: boolean }[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  has(digest: string): boolean {
    return this.#artefacts.has(digest);
  }

  /** As another machine is given it. */
  copyOf(digest: string): Uint8Array | undefined {
    return this.#artefacts.get(digest)?.slice();
  }

  stat(digest: string): number | undefined {
    return this.#artefacts.get(digest)?.byteLength;
  }

  names(): ReadonlyMap<string, NamedReference> {
    return this.#names;
  }

  open(life: Life): ArtefactStore {
    const flushed = () => life.pause(this.#world.random.skewed(0.2, 8));
    const get = (digest: string): Uint8Array => {
      const bytes = this.#artefacts.get(digest);
      if (!bytes) throw new RingfoldError("ARTEFACT_MISSING", `no artefact ${digest} here`, { digest });
      return bytes;
    };
    return {
      put: async (bytes) => {
        const copy = bytes.slice();
        await flushed();
        const digest = sha256(copy);
        if (!this.has(digest)) this.#changes.push({ digest, held: true });
        this.#artefacts.set(digest, copy);
        return digest;
      },
      get,
      stat: (digest) => this.stat(digest),
      readChunk: (digest, chunkIndex) => {
        const start = chunkIndex * limits.artefactChunkBytes;
        return get(digest).subarray(start, start + limits.artefactChunkBytes);
      },
      remove: async (digest) => {
        await flushed();
        if (this.#artefacts.delete(digest)) this.#changes.push({ digest, held: false });
      },
      list: ({ after, max } = { after: null, max: Number.MAX_SAFE_INTEGER }) =>
        [...this.#artefacts.keys()]
          .toSorted((a, b) => (a < b ? -1 : 1))
          .filter((digest) => after === null || digest > after)
          .slice(0, max),
      unlisted: () => [],
      lists: (digest) => this.has(digest),
      holdings: () => ({
        store: "disk",
        revision: this.#changes.length,
        recent: this.#changes.slice(-limits.changesTold),
      }),
      setName: async (name, reference) => {
        await flushed();
        this.#names.set(name, reference);
      },
      resolveName: (name) => this.#names.get(name),
      names: () => this.names(),
      removeName: async (name) => {
        await flushed();
        this.#names.delete(name);
      },
      close: async () => {},
    };
  }
}
