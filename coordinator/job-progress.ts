import { limits } from "../protocol/limits.ts";
import type { JobView } from "../protocol/messages/api.ts";
import type { JobReport, LossPoint } from "../protocol/messages/job-report.ts";

/** What runs ahead of the store: lost with the coordinator, and told again by the next report. */
export class JobProgress {
  readonly #live = new Map<string, { progress: JobView["progress"]; curve: LossPoint[] }>();

  record({ jobId, progress }: Extract<JobReport, { kind: "progress" }>): void {
    const { points, ...rest } = progress;
    const known = this.#live.get(jobId)?.curve ?? [];
    // Steps that a broken ring took back are told again.
    const firstStep = points[0]?.step ?? Number.POSITIVE_INFINITY;
    const curve = thinned([...known.filter(({ step }) => step < firstStep), ...points]);
    this.#live.set(jobId, { progress: rest, curve });
  }

  newest(jobId: string): JobView["progress"] {
    return this.#live.get(jobId)?.progress ?? null;
  }

  /** Undefined where nothing was heard in this life of the coordinator. */
  curve(jobId: string): LossPoint[] | undefined {
    return this.#live.get(jobId)?.curve;
  }
}

/** Bounded by dropping every second point: an old stretch of the curve loses detail, never its shape. */
const thinned = (curve: LossPoint[]): LossPoint[] =>
  curve.length <= limits.lossCurvePointsMax
    ? curve
    : curve.filter((_, i) => i % 2 === 0 || i === curve.length - 1);
