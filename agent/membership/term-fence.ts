import { RingfoldError } from "../../protocol/errors.ts";
import { shortPeer } from "../../protocol/ids.ts";

/** Lets through only commands of the coordinator, and none of an older term: a deposed one may still be talking. */
export class TermFence {
  readonly #coordinatorPeerId: string;
  readonly #listeners: (() => void)[] = [];
  #term = 0;

  constructor(coordinatorPeerId: string) {
    this.#coordinatorPeerId = coordinatorPeerId;
  }

  get term(): number {
    return this.#term;
  }

  /** @throws RingfoldError NOT_A_MEMBER | STALE_TERM */
  check(term: number, from: string): void {
    if (from !== this.#coordinatorPeerId) {
      throw new RingfoldError("NOT_A_MEMBER", `${shortPeer(from)} is not the coordinator of this cluster`, {
        peer: from,
      });
    }
    if (term < this.#term) {
      throw new RingfoldError("STALE_TERM", `term ${term} is over; the term is ${this.#term}`, {
        term: this.#term,
      });
    }
    const isNew = term > this.#term;
    this.#term = term;
    if (isNew) for (const listener of this.#listeners) listener();
  }

  /** Calls back at the first command of each new term: another coordinator is in charge, or the same one anew. */
  onNewTerm(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
