import { limits } from "../protocol/limits.ts";
import type { EventView } from "../protocol/messages/api.ts";
import type { Clock, Log, Store, StoreWrite } from "../protocol/ports.ts";
import { collections, padded } from "./state.ts";

/** The decisions and their reasons, for people. Append-only; an event is written with the decision that it tells of. */
export class EventLog {
  readonly #clock: Clock;
  readonly #log: Log;
  #events: EventView[];

  constructor({ store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Log }) {
    this.#clock = clock;
    this.#log = log;
    this.#events = collections.events.readAll(store).slice(-limits.eventsKeptMax);
  }

  /** Records an event; the caller adds the returned writes to those of the decision. */
  append(subject: string, message: string): StoreWrite[] {
    const event = {
      sequence: (this.#events.at(-1)?.sequence ?? 0) + 1,
      atMs: this.#clock.nowMs(),
      subject,
      message,
    };
    this.#log.info({ subject }, message);
    const dropped = this.#events.length >= limits.eventsKeptMax ? this.#events.shift() : undefined;
    this.#events.push(event);
    const writes = [collections.events.put(padded(event.sequence), event)];
    return dropped ? [...writes, collections.events.remove(padded(dropped.sequence))] : writes;
  }

  recent(): readonly EventView[] {
    return this.#events;
  }
}
