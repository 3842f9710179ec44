import { type ErrorCode, toRingfoldError } from "../protocol/errors.ts";
import type { Log } from "../protocol/ports.ts";

/** What concerns all parts alike: another leads, the disk is full, the coordinator ends. */
const everybodys: ReadonlySet<ErrorCode> = new Set(["STALE_TERM", "STORE_FAILED", "CANCELLED"]);

/** Parts of a look around that fail by themselves: one job, sweep or deployment that cannot be decided holds up no other. */
export class Apart {
  readonly #log: Log;
  /** By part: what was told of it last. */
  readonly #failures = new Map<string, string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Does `work`; told once is that it fails, and that it no longer does. @throws RingfoldError what concerns all parts */
  async run(part: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (this.#failures.delete(part)) this.#log.info({ part }, "A part of the look around works again");
    } catch (cause) {
      const error = toRingfoldError(cause);
      if (everybodys.has(error.code)) throw error;
      const text = `${error.code}: ${error.message}`;
      if (this.#failures.get(part) === text) return;
      this.#failures.set(part, text);
      this.#log.error({ err: error, part }, "A part of the look around failed; the others go on");
    }
  }
}
