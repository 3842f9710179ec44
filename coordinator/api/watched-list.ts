import type { Coordinator } from "../port.ts";
import type { EventSource, EventStreams, ServerEvent } from "./event-streams.ts";
import { hasFacts, inOrder, type List, type ListQuery } from "./lists.ts";
import { shownOf } from "./shown.ts";

/** Removed items that are remembered: who comes back after more than these gets a snapshot. */
const removedMax = 1_000;

interface Known<Item> {
  readonly item: Item;
  /** Digest of what is shown. */
  readonly shown: string;
  /** When that became so. */
  readonly revision: number;
}

/**
 * One list as its watchers follow it: `snapshot` {items} first, then `change` {put, removed}. Each event has an id, the term of
 * the coordinator and a revision of the list; with it in `Last-Event-ID` a watcher gets what has changed since, and a
 * snapshot if that is too long ago or was another coordinator. What is kept is when each item changed last, not the changes: a
 * watcher that was away for long costs no more than one that was not.
 */
export class WatchedList<Item extends object> {
  readonly #list: List<Item>;
  readonly #coordinator: Coordinator;
  readonly #streams: EventStreams;
  #known = new Map<string, Known<Item>>();
  #removed: { readonly key: string; readonly revision: number }[] = [];
  /** Removals up to here are forgotten. */
  #forgotten = 0;
  #revision = 0;
  #lookedAt = -1;

  constructor(list: List<Item>, coordinator: Coordinator, streams: EventStreams) {
    this.#list = list;
    this.#coordinator = coordinator;
    this.#streams = streams;
  }

  /** @param lastEventId of the event that a watcher had last */
  watch(wanted: Omit<ListQuery, "limit" | "cursor">, lastEventId: string | undefined): EventSource {
    const resumed = this.#readId(lastEventId);
    let seen = resumed;
    /** Keys that the watcher has; unknown of one that came back. */
    const has = resumed === undefined ? new Set<string>() : undefined;
    const id = () => `${this.#coordinator.term}.${this.#revision}`;
    const news = (): ServerEvent | undefined => {
      this.#look();
      if (seen === undefined || seen < this.#forgotten || seen > this.#revision) {
        const items = [...this.#known.values()]
          .map(({ item }) => item)
          .filter((item) => hasFacts(this.#list, item, wanted));
        for (const item of items) has?.add(this.#list.key(item));
        return { event: "snapshot", id: id(), data: { items: inOrder(this.#list, items) } };
      }
      const data = this.#since(seen, wanted, has);
      return data.put.length + data.removed.length > 0 ? { event: "change", id: id(), data } : undefined;
    };
    return {
      news: () => {
        const event = news();
        seen = this.#revision;
        return event ? [event] : [];
      },
      quiet: () => ({ event: "quiet", id: id(), data: {} }),
    };
  }

  #since(seen: number, wanted: Omit<ListQuery, "limit" | "cursor">, has: Set<string> | undefined) {
    const put: Item[] = [];
    const removed = this.#removed.filter(({ revision }) => revision > seen).map(({ key }) => key);
    for (const [key, { item, revision }] of this.#known) {
      if (revision <= seen) continue;
      if (hasFacts(this.#list, item, wanted)) {
        put.push(item);
        has?.add(key);
      } else removed.push(key);
    }
    // What it never had need not be told to be gone.
    return {
      put: inOrder(this.#list, put),
      removed: has ? removed.filter((key) => has.delete(key)) : removed,
    };
  }

  /** Finds what has changed since it looked last: once for all watchers. */
  #look(): void {
    if (this.#lookedAt === this.#streams.changes) return;
    this.#lookedAt = this.#streams.changes;
    const revision = this.#revision + 1;
    const known = new Map<string, Known<Item>>();
    for (const item of this.#list.all(this.#coordinator)) {
      const key = this.#list.key(item);
      const before = this.#known.get(key);
      if (before?.item === item) {
        known.set(key, before);
        continue;
      }
      const shown = shownOf(item).digest;
      known.set(key, { item, shown, revision: before?.shown === shown ? before.revision : revision });
      if (before?.shown !== shown) this.#revision = revision;
    }
    for (const key of this.#known.keys()) {
      if (known.has(key)) continue;
      this.#removed.push({ key, revision });
      this.#revision = revision;
    }
    this.#known = known;
    for (const { revision } of this.#removed.splice(0, Math.max(0, this.#removed.length - removedMax)))
      this.#forgotten = revision;
  }

  #readId(id: string | undefined): number | undefined {
    const [, term, revision] = /^(\d{1,15})\.(\d{1,15})$/.exec(id ?? "") ?? [];
    return Number(term) === this.#coordinator.term ? Number(revision) : undefined;
  }
}
