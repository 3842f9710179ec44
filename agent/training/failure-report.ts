import type { RingfoldError } from "../../protocol/errors.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { Trainee } from "./trainee.ts";

/** What the coordinator hears of a generation that has failed: whether another ring may do better, and who is to blame. */
export function reportOfFailure(
  error: RingfoldError,
  of: {
    readonly jobId: string;
    readonly plan: Pick<GenerationPlan, "generation" | "ranks">;
    readonly trainer: Pick<Trainee, "stall" | "point">;
  },
): JobReport {
  const { jobId, plan, trainer } = of;
  const { code, message, data } = error;
  switch (code) {
    case "NOT_FINITE":
    case "DATA_INVALID":
    case "MODEL_TOO_LARGE": {
      // Another ring would meet the same data, or want the same memory. Of numbers that are not finite every rank knows whose they were.
      const culprit = plan.ranks.find(({ rank }) => rank === data.rank)?.peerId;
      const suspect = culprit === undefined ? {} : { suspect: culprit };
      return { kind: "failed", jobId, code, message, fatal: true, ...suspect };
    }
    case "ARTEFACT_MISSING": // of the data: another rank may have what this one cannot get
      return { kind: "failed", jobId, code, message, fatal: false };
    default:
      return {
        ...{ kind: "ended", jobId, generation: plan.generation, cause: "broken" },
        ...{ stepMs: trainer.stall.stepMs, point: trainer.point() },
        suspect: typeof data.peer === "string" ? data.peer : null,
        code,
        detail: `${code}: ${message}`.slice(0, 2_000),
        ...(typeof data.missing === "string" ? { missing: data.missing } : {}),
        ...(isOwnFault(error) ? { fault: code } : {}),
      };
  }
}

/**
 * Whether no peer, no link and no moment has to do with it. A state that is not the plan's counts as a matter of the moment: a
 * later plan knows where this rank stands.
 */
function isOwnFault({ code, rule, data }: RingfoldError): boolean {
  const isOfMoment = rule.retryable || code === "CANCELLED" || code === "HASH_DIVERGED";
  return rule.blame !== "peer" && !isOfMoment && data.peer === undefined;
}
