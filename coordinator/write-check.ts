import { toRingfoldError } from "../protocol/errors.ts";
import { pause } from "../protocol/pause.ts";
import type { Clock, Store } from "../protocol/ports.ts";

/** Looked at anew at most so often: each look is a write that reaches the disk. */
const validMs = 1_000;
/** A store that takes longer decides nothing in time, either. */
const patienceMs = 2_000;
const key = "meta/write-check";

/** Whether the store takes writes, found out by writing: a disk that has become full says nothing before. */
export class WriteCheck {
  readonly #store: Store;
  readonly #clock: Clock;
  #last: { readonly atMs: number; readonly trouble: Promise<string | undefined> } | undefined;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Why it does not, for a person; undefined when it does. */
  trouble(): Promise<string | undefined> {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#last || nowMs - this.#last.atMs >= validMs)
      this.#last = { atMs: nowMs, trouble: this.#look() };
    return this.#last.trouble;
  }

  async #look(): Promise<string | undefined> {
    const done = new AbortController();
    const value = new TextEncoder().encode(String(this.#clock.nowMs()));
    const written = this.#store.write([{ key, value }]).then(
      () => undefined,
      (cause: unknown) => `the store takes no writes: ${toRingfoldError(cause).message}`,
    );
    const late = pause(this.#clock, patienceMs, done.signal).then(
      () => `the store has not taken a write within ${patienceMs / 1_000} s`,
      () => undefined,
    );
    try {
      return await Promise.race([written, late]);
    } finally {
      done.abort();
    }
  }
}
