import { abortError, untilAborted } from "../deadline.ts";

/** Where the chunks of a data set come from. */
export interface ChunkSource {
  /** Whether it is on this machine's disk. */
  has(digest: string): boolean;
  /**
   * A chunk, or the manifest itself: from this machine, else from a peer, its digest checked.
   * @throws RingfoldError ARTEFACT_MISSING; the reason of `signal`
   */
  read(digest: string, signal: AbortSignal): Promise<Uint8Array>;
  /** Sees to it that a chunk is on this machine's disk, whole and true. @throws as `read` */
  fetch(digest: string, signal: AbortSignal): Promise<void>;
}

/** Chunks that are on their way from peers at the same time, beside those that somebody waits for. */
const fetchesMax = 4;

/**
 * Brings chunks from peers to this machine's disk before they are needed. What is expected `soon` comes first, what is
 * expected `later` while there is nothing else to do. A chunk that cannot be had is not asked for again until somebody waits for it.
 */
export class ChunkFetcher {
  readonly #source: ChunkSource;
  readonly #lifetime: AbortSignal;
  readonly #expected = { soon: [] as readonly string[], later: [] as readonly string[] };
  readonly #underWay = new Map<string, Promise<void>>();
  readonly #here = new Set<string>();
  readonly #failed = new Set<string>();

  /** @param lifetime ends what is under way */
  constructor(source: ChunkSource, lifetime: AbortSignal) {
    this.#source = source;
    this.#lifetime = lifetime;
  }

  has(digest: string): boolean {
    if (this.#here.has(digest)) return true;
    if (!this.#source.has(digest)) return false;
    this.#here.add(digest);
    return true;
  }

  /** @param digests in the order of need; they take the place of those that were expected then before */
  expect(when: "soon" | "later", digests: readonly string[]): void {
    this.#expected[when] = digests.filter((digest) => !this.has(digest));
    this.#fill();
  }

  /** Resolves when it is on the disk. @throws as `ChunkSource.fetch` */
  async bring(digest: string, signal: AbortSignal): Promise<void> {
    if (this.has(digest)) return;
    await untilAborted(this.#underWay.get(digest) ?? this.#begin(digest), signal);
  }

  #begin(digest: string): Promise<void> {
    if (this.#lifetime.aborted) return Promise.reject(abortError(this.#lifetime));
    const fetching = this.#source.fetch(digest, this.#lifetime).finally(() => this.#underWay.delete(digest));
    this.#underWay.set(digest, fetching);
    fetching.then(
      () => {
        this.#here.add(digest);
        this.#failed.delete(digest);
        this.#fill();
      },
      () => {
        this.#failed.add(digest);
        if (!this.#lifetime.aborted) this.#fill();
      },
    );
    return fetching;
  }

  #fill(): void {
    for (const digest of [...this.#expected.soon, ...this.#expected.later]) {
      if (this.#underWay.size >= fetchesMax) return;
      if (this.#here.has(digest) || this.#failed.has(digest) || this.#underWay.has(digest)) continue;
      void this.#begin(digest);
    }
  }
}
