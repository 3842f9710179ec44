import type { JobSpec } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import type { ApiClient } from "../commands/api-client.ts";
import { JobObserver, type StepSighting } from "./job-observer.ts";

const startTimeoutMs = 120_000;
/** V8 compiles the first steps: so much of the measuring time passes before it begins. */
const settleShare = 0.2;

interface Modules {
  readonly api: ApiClient;
  readonly signal: AbortSignal;
  readonly onView: (job: JobView) => void;
}

/** Longer than any run; the measured job is cancelled. */
const openEndedEpochs = 100_000;
export const openEnded = (spec: JobSpec): JobSpec => ({ ...spec, epochs: openEndedEpochs });

/**
 * The speed of an undisturbed ring of exactly `worldSize` ranks on this machine, measured for `measureMs`.
 * @returns the speed, and how many steps the job has an epoch
 */
export async function measureSpeed(
  { api, signal, onView }: Modules,
  options: { readonly spec: JobSpec; readonly worldSize: number; readonly measureMs: number },
): Promise<{ readonly examplesPerSecond: number; readonly stepsPerEpoch: number }> {
  const { spec, worldSize, measureMs } = options;
  const workers = { min: worldSize, max: worldSize, spares: 0 };
  const job = await api.submitJob({ ...openEnded(spec), workers });
  const observer = new JobObserver({ api, job, signal, onView });
  try {
    await observer.until(({ progress }) => (progress?.step ?? 0) > 0, {
      timeoutMs: startTimeoutMs,
      what: `the first step of ${worldSize} ranks`,
    });
    const begunAtMs = Date.now();
    const measured = () => {
      const warm = observer.sightings.filter(({ atMs }) => atMs - begunAtMs >= settleShare * measureMs);
      const [first, last] = [warm[0], warm.at(-1)];
      return first && last && last.atMs - first.atMs >= measureMs ? { from: first, to: last } : undefined;
    };
    const { progress } = await observer.until(() => measured() !== undefined, {
      timeoutMs: startTimeoutMs + measureMs,
      what: `${measureMs / 1_000} s of undisturbed training`,
    });
    return {
      examplesPerSecond: speedOf(measured()!, spec.batchSize),
      stepsPerEpoch: progress!.totalSteps / openEndedEpochs,
    };
  } finally {
    await observer.close();
    if (!signal.aborted) await api.cancelJob(job.id);
  }
}

/** Trains the whole job undisturbed. @throws RingfoldError JOB_FAILED */
export async function runUndisturbed(
  { api, signal, onView }: Modules,
  { spec, timeoutMs }: { readonly spec: JobSpec; readonly timeoutMs: number },
): Promise<JobView> {
  const observer = new JobObserver({ api, job: await api.submitJob(spec), signal, onView });
  try {
    return await observer.until(({ state }) => state === "succeeded", {
      timeoutMs,
      what: "the undisturbed job",
    });
  } finally {
    await observer.close();
  }
}

const speedOf = ({ from, to }: { from: StepSighting; to: StepSighting }, batchSize: number): number =>
  (1_000 * (to.step - from.step) * batchSize) / (to.atMs - from.atMs);
