import { toRingfoldError } from "./errors.ts";
import { limits } from "./limits.ts";
import { type ArtefactPage, type Holdings, listArtefacts } from "./messages/artefact.ts";
import type { Clock, ClusterNetwork, Log } from "./ports.ts";

/** What one peer holds, as another one knows it. */
interface Held {
  store: string;
  /** What is in `digests` is that of this revision; -1: not known yet. */
  revision: number;
  digests: Set<string>;
  /** What it said last. */
  told: Holdings;
  isAsked: boolean;
  askedAtMs: number;
}

export interface HoldersModules {
  readonly network: Pick<ClusterNetwork, "request">;
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
  /** Who holds what has changed. */
  readonly changed?: () => void;
}

const nobody: ReadonlySet<string> = new Set();

/**
 * Who holds which artefacts. With each beat a peer says how often what it holds has changed, and the last changes; whoever has
 * heard all but those knows the rest. The whole list is asked for, in pages, only by who meets the peer anew or has missed more:
 * a beat stays small however many artefacts there are, and nothing is said twice.
 */
export class Holders {
  readonly #modules: HoldersModules;
  readonly #held = new Map<string, Held>();
  /** Peers by digest. */
  readonly #holders = new Map<string, Set<string>>();
  readonly #closed = new AbortController();
  #asking = 0;
  #revision = 0;

  constructor(modules: HoldersModules) {
    this.#modules = modules;
  }

  /** Grows with every change. */
  get revision(): number {
    return this.#revision;
  }

  /** Peers that said that they hold an artefact, in the order in which they did. */
  of(digest: string): ReadonlySet<string> {
    return this.#holders.get(digest) ?? nobody;
  }

  heldBy(peerId: string): ReadonlySet<string> {
    return this.#held.get(peerId)?.digests ?? nobody;
  }

  /** Facts of one peer come in order. */
  hear(peerId: string, told: Holdings): void {
    const tellsAll = told.recent.length === told.revision;
    const held = this.#held.get(peerId) ?? {
      ...{ store: told.store, revision: tellsAll ? 0 : -1, digests: new Set<string>() },
      ...{ told, isAsked: false, askedAtMs: Number.NEGATIVE_INFINITY },
    };
    this.#held.set(peerId, held);
    // A store that was put back to what it was before has changed, too.
    if (told.store === held.told.store && told.revision < held.told.revision) held.revision = -1;
    held.told = told;
    if (!this.#catchUp(peerId, held)) this.#ask();
  }

  /** It is gone, and may come back with a store that nobody knows. */
  forget(peerId: string): void {
    const held = this.#held.get(peerId);
    if (!held) return;
    for (const digest of held.digests) this.#remove(peerId, held, digest);
    this.#held.delete(peerId);
  }

  close(): void {
    this.#closed.abort();
  }

  /** Whether all that it holds is known now. */
  #catchUp(peerId: string, held: Held): boolean {
    const { store, revision, recent } = held.told;
    if (store !== held.store || held.revision < 0) return false;
    const missed = revision - held.revision;
    if (missed <= 0) return true; // its list was newer than this beat
    if (missed > recent.length) return false;
    for (const { digest, held: isHeld } of recent.slice(recent.length - missed)) {
      if (isHeld) this.#add(peerId, held, digest);
      else this.#remove(peerId, held, digest);
    }
    held.revision = revision;
    return true;
  }

  /** Lists that are lacking, a few at a time; one that could not be had waits for a later beat. */
  #ask(): void {
    const nowMs = this.#modules.clock.monotonicMs();
    for (const [peerId, held] of this.#held) {
      if (this.#asking >= limits.listsAskedMax || this.#closed.signal.aborted) return;
      if (held.isAsked || nowMs - held.askedAtMs < limits.listAskAgainMs || this.#catchUp(peerId, held))
        continue;
      held.isAsked = true;
      held.askedAtMs = nowMs;
      this.#asking++;
      void this.#read(peerId, held).finally(() => {
        held.isAsked = false;
        this.#asking--;
        this.#ask();
      });
    }
  }

  async #read(peerId: string, held: Held): Promise<void> {
    const { network, log } = this.#modules;
    const digests = new Set<string>();
    try {
      let first: { readonly store: string; readonly revision: number } | undefined;
      for (let after: string | null = null, isLast = false; !isLast; ) {
        const page: ArtefactPage = await network.request(
          peerId,
          listArtefacts,
          { after },
          { signal: this.#closed.signal },
        );
        first ??= page;
        // What changes while the pages are read is in the beats after the first one, and a change that is known hurts nobody.
        for (const digest of page.digests) digests.add(digest);
        after = page.digests.at(-1) ?? null;
        isLast = page.isLast || after === null || digests.size >= limits.artefactsKnownMax;
      }
      if (this.#held.get(peerId) === held) this.#replace(peerId, held, digests, first!);
    } catch (cause) {
      log.debug({ err: toRingfoldError(cause), peer: peerId }, "A peer did not say what it holds");
    }
  }

  #replace(
    peerId: string,
    held: Held,
    digests: ReadonlySet<string>,
    { store, revision }: { readonly store: string; readonly revision: number },
  ): void {
    for (const digest of held.digests) if (!digests.has(digest)) this.#remove(peerId, held, digest);
    for (const digest of digests) this.#add(peerId, held, digest);
    held.store = store;
    held.revision = revision;
    this.#catchUp(peerId, held); // with the beats that came meanwhile
  }

  #add(peerId: string, held: Held, digest: string): void {
    if (held.digests.has(digest)) return;
    held.digests.add(digest);
    const known = this.#holders.get(digest);
    if (known) known.add(peerId);
    else this.#holders.set(digest, new Set([peerId]));
    this.#changed();
  }

  #remove(peerId: string, held: Held, digest: string): void {
    if (!held.digests.delete(digest)) return;
    const known = this.#holders.get(digest);
    known?.delete(peerId);
    if (known?.size === 0) this.#holders.delete(digest);
    this.#changed();
  }

  #changed(): void {
    this.#revision++;
    this.#modules.changed?.();
  }
}
