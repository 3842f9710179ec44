import { limits } from "../protocol/limits.ts";
import type { EventView } from "../protocol/messages/api.ts";
import type { Clock, Log, Store, StoreWrite } from "../protocol/ports.ts";
import { collections, padded } from "./state.ts";

/**
 * The decisions and their reasons, for people. Append-only; an event is written with the decision that it tells of, and
 * seen by nobody before that write is on disk.
 */
export class EventLog {
  readonly #clock: Clock;
  readonly #log: Log;
  #events: readonly EventView[];
  #nextSequence: number;
  /** By key, on their way to the disk. */
  readonly #pending = new Map<string, EventView>();

  constructor({ store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
    this.#events = collections.events.readAll(store).slice(-limits.eventsKeptMax);
    this.#nextSequence = (this.#events.at(-1)?.sequence ?? 0) + 1;
  }

  /** Records an event; the caller adds the returned writes to those of the decision, and writes to `showing(store)`. */
  append(subject: string, message: string): StoreWrite[] {
    const sequence = this.#nextSequence++;
    const event = { sequence, atMs: this.#clock.nowMs(), subject, message };
    const write = collections.events.put(padded(sequence), event);
    this.#pending.set(write.key, event);
    const outdated = sequence - limits.eventsKeptMax;
    return outdated > 0 ? [write, collections.events.remove(padded(outdated))] : [write];
  }

  /** The same store; what it has written is shown from then on. */
  showing(store: Store): Store {
    return {
      get: (key) => store.get(key),
      list: (prefix) => store.list(prefix),
      close: () => store.close(),
      write: async (writes) => {
        const events = writes.flatMap(({ key }) => this.#take(key));
        await store.write(writes);
        for (const { subject, message } of events) this.#log.info({ subject }, message);
        this.#events = [...this.#events, ...events].slice(-limits.eventsKeptMax);
      },
    };
  }

  recent(): readonly EventView[] {
    return this.#events;
  }

  #take(key: string): EventView[] {
    const event = this.#pending.get(key);
    this.#pending.delete(key);
    return event ? [event] : [];
  }
}
