import { z } from "zod";
import { decode, encode } from "../protocol/codec.ts";
import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { EventView } from "../protocol/messages/api.ts";
import type { AuditEntry } from "../protocol/messages/audit.ts";
import type { Clock, Log, Store, StoreWrite } from "../protocol/ports.ts";
import { type AuditFilter, isWanted } from "./decide/audit-filter.ts";
import { changesBetween } from "./decide/change.ts";
import {
  auditEntry,
  type Decision,
  type DecisionEntry,
  logFormat,
  type RecordedState,
  replayEntry,
} from "./decide/decision.ts";
import { collections, isRecorded, padded } from "./state.ts";
import { isWithinOneWrite } from "./store/one-write.ts";

export interface DecisionLogModules {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly term: number;
  /** Entries that stay; older ones live on in the snapshot only. */
  readonly kept?: number;
}

export interface AuditQuery extends AuditFilter {
  /** Of the last entry that the reader has; 0 is none. */
  readonly after: number;
  readonly limit: number;
}

/** A stretch of the log. Ask again with `after` = `next` until `next` equals `last`. */
export interface AuditPage {
  readonly entries: AuditEntry[];
  readonly next: number;
  readonly last: number;
}

/** What is told of a decision to who has something to write with it. */
type Made = Pick<DecisionEntry, "sequence" | "event">;
interface Companion {
  readonly writes: readonly StoreWrite[];
  /** Called when they are durable. */
  readonly written: () => void;
}

/** So many entries at once go over into the snapshot, or as many of them as one write takes with the records that they touch. */
const foldedAtOnce = 16;
/** Entries that one answer looks at. */
const scannedMax = 2_000;
const snapshotPrefix = "snapshot/";

/**
 * Everything that was decided, when, by whom and why: append-only, and written in one write with the state that it led
 * to, so neither is ever there without the other. The snapshot and the entries since then give the present state.
 * One commit at a time; the queue of the coordinator sees to that.
 */
export class DecisionLog {
  readonly #modules: DecisionLogModules;
  /** Entries from `first` on are kept; `next` is the number of the next one. */
  #first: number;
  #next: number;
  #news: readonly EventView[];
  #companionOf: ((made: Made) => Companion | undefined) | undefined;

  constructor(modules: DecisionLogModules) {
    this.#modules = modules;
    const { store } = modules;
    this.#first = (collections.log.read(store, "snapshot") ?? 0) + 1;
    this.#next = this.#first;
    for (const { key } of store.list("decision/")) this.#next = Number(key.slice("decision/".length)) + 1;
    this.#news = this.#newestNews();
  }

  /**
   * Writes state and the decision that led to it. What is not a record of the log (loss curves) may go along.
   * @throws RingfoldError of the store; then nothing has happened
   */
  async commit(decision: Decision, writes: readonly StoreWrite[]): Promise<void> {
    const { store, clock, term, log } = this.#modules;
    await this.#fold();
    const sequence = this.#next;
    const changes = changesOf(store, writes);
    const entry = { format: logFormat, sequence, atMs: clock.nowMs(), term, ...decision, changes } as const;
    const companion = this.#companionOf?.({ sequence, event: decision.event });
    await store.write([
      ...writes,
      ...(companion?.writes ?? []),
      collections.decisions.put(padded(sequence), entry),
    ]);
    if (companion) this.#companionOf = undefined;
    companion?.written();
    this.#next++;
    if (!decision.isNews) return;
    log.info({ subject: decision.subject }, decision.reason);
    this.#news = [...this.#news, eventView(entry)].slice(-limits.eventsKeptMax);
  }

  /** Does `work`; the first of its decisions to which `companionOf` has something to say is written together with that. */
  async withNext<T>(companionOf: (made: Made) => Companion | undefined, work: () => Promise<T>): Promise<T> {
    this.#companionOf = companionOf;
    try {
      return await work();
    } finally {
      this.#companionOf = undefined;
    }
  }

  /** What people are told, newest last. */
  news(): readonly EventView[] {
    return this.#news;
  }

  page({ after, limit, ...wanted }: AuditQuery): AuditPage {
    const entries: AuditEntry[] = [];
    let at = Math.max(after, this.#first - 1);
    const end = Math.min(this.#next - 1, at + scannedMax);
    while (at < end && entries.length < limit) {
      const entry = this.#entry(++at);
      if (isWanted(entry, wanted)) entries.push(auditEntry(entry));
    }
    return { entries, next: at, last: this.#next - 1 };
  }

  #entry(sequence: number): DecisionEntry {
    const entry = collections.decisions.read(this.#modules.store, padded(sequence));
    if (entry) return entry;
    throw new RingfoldError("STORE_FAILED", `decision ${sequence} is missing from the log`, { sequence });
  }

  #newestNews(): EventView[] {
    const news: EventView[] = [];
    for (let at = this.#next - 1; at >= this.#first && news.length < limits.eventsKeptMax; at--) {
      const entry = this.#entry(at);
      if (entry.isNews) news.push(eventView(entry));
    }
    return news.reverse();
  }

  /**
   * Applies the oldest entries, when there are too many, to the snapshot. A write of its own: state and log mean the same before
   * and after it, and beside a large decision there might be no room for it, now or ever.
   */
  async #fold(): Promise<void> {
    const { store, kept = limits.decisionsKept } = this.#modules;
    if (this.#next - this.#first < kept + foldedAtOnce) return;
    const touched: RecordedState = new Map();
    const records = new Map<string, StoreWrite>();
    const removed: StoreWrite[] = [];
    let writes: StoreWrite[] = [];
    let count = 0;
    while (count < foldedAtOnce) {
      const sequence = this.#first + count;
      const entry = this.#entry(sequence);
      for (const { key } of entry.changes)
        if (!touched.has(key)) touched.set(key, plain(store.get(`${snapshotPrefix}${key}`)));
      replayEntry(touched, entry);
      for (const { key } of entry.changes) {
        const value = touched.get(key);
        touched.set(key, value); // removed, and to be told so
        const bytes = value === undefined ? undefined : encode(value);
        records.set(key, { key: `${snapshotPrefix}${key}`, value: bytes });
      }
      removed.push(collections.decisions.remove(padded(sequence)));
      const more = [...records.values(), ...removed, collections.log.put("snapshot", sequence)];
      // One entry alone fits: what wrote it was larger.
      if (count > 0 && !isWithinOneWrite(more)) break;
      writes = more;
      count++;
    }
    await store.write(writes);
    this.#first += count;
  }
}

/**
 * The state that the log of a store tells of: its snapshot, and the decisions since then.
 * @throws RingfoldError STORE_FAILED when a decision is missing or damaged
 */
export function replayLog(store: Pick<Store, "get" | "list">): RecordedState {
  const state: RecordedState = new Map();
  for (const { key, value } of store.list(snapshotPrefix))
    state.set(key.slice(snapshotPrefix.length), plain(value));
  let expected = (collections.log.read(store, "snapshot") ?? 0) + 1;
  for (const entry of collections.decisions.readAll(store)) {
    if (entry.sequence !== expected)
      throw new RingfoldError("STORE_FAILED", `decision ${expected} is missing from the log`, { expected });
    replayEntry(state, entry);
    expected++;
  }
  return state;
}

/** The state that a store holds, of the records that the log tells of. */
export function recordedState(store: Pick<Store, "list">): RecordedState {
  const state: RecordedState = new Map();
  for (const { key, value } of store.list("")) if (isRecorded(key)) state.set(key, plain(value));
  return state;
}

/** Writes that make the present state the snapshot of a log that begins after `sequence`: where a log is begun late. */
export const beginLog = (store: Pick<Store, "list">, sequence: number): StoreWrite[] => [
  ...[...recordedState(store)].map(([key, value]) => ({
    key: `${snapshotPrefix}${key}`,
    value: encode(value),
  })),
  collections.log.put("snapshot", sequence),
];

function changesOf(store: Store, writes: readonly StoreWrite[]): DecisionEntry["changes"] {
  const last = new Map(writes.map(({ key, value }) => [key, value]));
  return [...last].flatMap(([key, value]) => {
    if (!isRecorded(key)) return [];
    const changes = changesBetween(plain(store.get(key)), plain(value));
    return changes.length > 0 ? [{ key, changes }] : [];
  });
}

const anything = z.unknown();
const plain = (bytes: Uint8Array | undefined): unknown =>
  bytes && decode(bytes, anything, limits.artefactBytes);

const eventView = ({ sequence, atMs, subject, reason }: DecisionEntry): EventView => ({
  ...{ sequence, atMs, subject },
  message: reason,
});
