import { RingfoldError } from "../../../protocol/errors.ts";
import { abortError } from "../../deadline.ts";
import type { Purpose } from "./arrivals.ts";

/** Who takes part in a generation of a job. */
export interface AdmissionPlan {
  readonly jobId: string;
  readonly generation: number;
  readonly peerIds: readonly string[];
}

/**
 * Who may link with this rank: the members of the newest plan, for that plan. A key of its own makes a stranger a peer
 * with a certificate, but not a member. A dial may come before the plan that explains it and then waits for it.
 */
export class Admission {
  readonly #newest = new Map<
    string,
    { readonly generation: number; readonly peerIds: ReadonlySet<string> }
  >();
  readonly #waiting = new Set<() => void>();

  /** Takes a plan; an older one than is known changes nothing. */
  admit({ jobId, generation, peerIds }: AdmissionPlan): void {
    if (generation < (this.#newest.get(jobId)?.generation ?? 0)) return;
    this.#newest.set(jobId, { generation, peerIds: new Set(peerIds) });
    for (const look of [...this.#waiting]) look();
  }

  /**
   * Resolves when the plan that `purpose` speaks of is here and names `from`.
   * @throws RingfoldError STALE_GENERATION | NOT_A_MEMBER, or why the signal aborted
   */
  async admitted(from: string, purpose: Purpose, signal: AbortSignal): Promise<void> {
    while (!this.#isAdmitted(from, purpose)) await this.#change(signal);
  }

  #isAdmitted(from: string, { jobId, generation }: Purpose): boolean {
    const plan = this.#newest.get(jobId);
    if (!plan || plan.generation < generation) return false;
    const data = { peer: from, generation, expectedGeneration: plan.generation };
    if (plan.generation > generation) {
      throw new RingfoldError(
        "STALE_GENERATION",
        `${from} dialled for generation ${generation}; the ring is at ${plan.generation}`,
        data,
      );
    }
    if (plan.peerIds.has(from)) return true;
    throw new RingfoldError("NOT_A_MEMBER", `${from} is not in generation ${generation} of ${jobId}`, data);
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#waiting.delete(look);
        signal.removeEventListener("abort", onAbort);
      };
      const look = () => {
        done();
        resolve();
      };
      const onAbort = () => {
        done();
        reject(abortError(signal));
      };
      if (signal.aborted) return onAbort();
      this.#waiting.add(look);
      signal.addEventListener("abort", onAbort);
    });
  }
}
