import { RingfoldError } from "../protocol/errors.ts";

/** Events that wait their turn; far more than a thousand agents send in the time of one disk flush. */
const waitingMax = 10_000;

/** One piece of work at a time, in order: decisions never interleave, so none acts on a state that another changes. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  /** @throws RingfoldError OVERLOADED | CANCELLED, and what `work` throws */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new RingfoldError("CANCELLED", "the coordinator is closing");
    if (this.#waiting >= waitingMax)
      throw new RingfoldError("OVERLOADED", `${waitingMax} events wait already`);
    this.#waiting++;
    const turn = this.#tail.then(work);
    this.#tail = turn.catch(() => {}); // its caller hears of the failure; the next in line does not
    try {
      return await turn;
    } finally {
      this.#waiting--;
    }
  }

  /** Takes no more work and resolves when what was taken is done. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#tail;
  }
}
