import { untilAborted } from "../deadline.ts";

export type FetchArtefact = (digest: string, signal: AbortSignal) => Promise<Uint8Array>;

/** The version that is served and the one that replaces it; the shard host holds what is loaded anyway. */
const entriesMax = 2;

/** Weights by digest, fetched once for however many shards of a version this agent hosts. */
export class WeightsCache {
  readonly #fetch: FetchArtefact;
  readonly #lifetime: AbortSignal;
  readonly #entries = new Map<string, Promise<Uint8Array>>();

  /** @param lifetime ends running fetches; one loader that leaves must not end the fetch of another */
  constructor(fetch: FetchArtefact, lifetime: AbortSignal) {
    this.#fetch = fetch;
    this.#lifetime = lifetime;
  }

  /** @throws RingfoldError of the fetch, which is then forgotten, or CANCELLED | REQUEST_TIMEOUT of `signal` */
  async get(digest: string, signal: AbortSignal): Promise<Uint8Array> {
    const entry = this.#entries.get(digest) ?? this.#start(digest);
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    const oldest = this.#entries.keys().next();
    if (this.#entries.size > entriesMax && !oldest.done) this.#entries.delete(oldest.value);
    return await untilAborted(entry, signal);
  }

  /** Nothing loads any more: whatever is kept is memory for nobody. */
  clear(): void {
    this.#entries.clear();
  }

  #start(digest: string): Promise<Uint8Array> {
    const entry = this.#fetch(digest, this.#lifetime);
    entry.catch(() => {
      if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
    });
    return entry;
  }
}
