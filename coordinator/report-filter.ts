import type { ReportOrigin } from "../protocol/messages/job-report.ts";
import type { PeerTable } from "./peers.ts";

/**
 * Lets each report through once and in order. An agent says a report again until it is answered, so after a cut several
 * copies may come, late, even from an earlier life of the agent; and a death that is counted twice is two.
 */
export class ReportFilter {
  readonly #peers: PeerTable;
  /** The newest report that was taken, by peer. */
  readonly #taken = new Map<string, ReportOrigin>();

  constructor(peers: PeerTable) {
    this.#peers = peers;
  }

  isNews(from: string, { life, sequence }: ReportOrigin): boolean {
    const present = this.#peers.get(from)?.hello.incarnation;
    if (present !== undefined && present !== life) return false;
    const taken = this.#taken.get(from);
    return taken?.life !== life || sequence > taken.sequence;
  }

  /** It was decided on, and the decision is durable: from now on it is a repetition. */
  took(from: string, origin: ReportOrigin): void {
    if (this.#peers.get(from)) this.#taken.set(from, origin);
  }

  /** It is gone from the peer table. */
  forget(peerId: string): void {
    this.#taken.delete(peerId);
  }
}
