import type { JobSpec } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { type ApiClient, createApiClient } from "../commands/api-client.ts";
import { formatDuration } from "../commands/present/quantity.ts";
import type { LocalCluster } from "../local-cluster/local-cluster.ts";
import { brokenInvariants, type ChaosReport } from "./chaos-report.ts";
import { collectEvidence, type DisturbedRun, summarize } from "./disturbed-run.ts";
import { FaultDice, type SignalChoice } from "./fault-dice.ts";
import { FaultInjector } from "./fault-injector.ts";
import { type Stretch, strikeInTurns, strikeWheneverWhole, turnsMs, untilWhole } from "./fault-schedule.ts";
import { JobObserver } from "./job-observer.ts";
import { processesOf } from "./processes.ts";
import { ResourceMonitor } from "./resource-monitor.ts";
import { measureSpeed, openEnded, runUndisturbed } from "./undisturbed.ts";

/** How long the disturbed run lasts. */
export type ChaosLength =
  /** Epochs are chosen so that the job outlasts the time. */
  | { readonly kind: "time"; readonly durationMs: number }
  /** As long as the job file says. */
  | { readonly kind: "job" }
  /** Until so many agents were struck, each as soon as the ring was whole; nothing is compared. */
  | { readonly kind: "faults"; readonly count: number };

export interface ChaosOptions {
  readonly spec: JobSpec;
  readonly agentCount: number;
  readonly length: ChaosLength;
  readonly everyMs: number;
  readonly signal: SignalChoice;
  readonly seed: number;
}

export interface ChaosModules {
  /** Nothing in it runs yet; everything is stopped when the run returns. */
  readonly cluster: LocalCluster;
  readonly folder: string;
  readonly signal: AbortSignal;
  /** A line about what goes on. */
  readonly note: (line: string) => void;
  readonly onView: (job: JobView) => void;
}

/** A ring of four on two cores is fast and slow by turns; this is enough to choose a number of epochs by. */
const measureMsMax = 15_000;
/** A disturbed ring is slower, and may be faster where fewer ranks share the cores: the job must outlast the time. */
const epochsMargin = 1.15;
/** An undisturbed run that takes this many times its estimate is stuck. */
const patience = 4;
const jobTimeoutMs = 60 * 60_000;

/**
 * Trains a job undisturbed, trains it again while agents are struck, and compares.
 *
 * @throws RingfoldError what ended the run early; an invariant that did not hold is in the report, not thrown
 * Cost: a little more than twice the length of the run.
 */
export async function runChaos(options: ChaosOptions, modules: ChaosModules): Promise<ChaosReport> {
  const { cluster, folder, signal, note } = modules;
  note(`a coordinator and ${options.agentCount} agents, each a process of its own; seed ${options.seed}`);
  const { ready: coordinator } = await cluster.startCoordinator();
  const names = Array.from({ length: options.agentCount }, (_, i) => `agent-${i + 1}`);
  await Promise.all(names.map((name) => cluster.startAgent(name)));
  const { httpUrl, operatorToken } = coordinator;
  const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal });
  const monitor = new ResourceMonitor(folder);
  try {
    const plan = await planJob(options, { ...modules, api });
    const baselineAccuracy = await runBaseline(options, plan, { ...modules, api });
    const run = await runDisturbed(options, plan.spec, { ...modules, api });
    const evidence = await collectEvidence(run, cluster, names);
    await cluster.stop();
    await monitor.close();
    const left = processesOf(folder).map(({ pid }) => pid);
    const report = summarize({ options, run, evidence, baselineAccuracy, monitor, left });
    return { ...report, failures: brokenInvariants(report) };
  } finally {
    await monitor.close();
  }
}

interface JobPlan {
  readonly spec: JobSpec;
  readonly estimateMs: number;
}

type WithApi = ChaosModules & { readonly api: ApiClient };

/** The job of a timed run has so many epochs that, at the speed of an undisturbed ring, it outlasts the time. */
async function planJob(
  { spec, agentCount, length, everyMs }: ChaosOptions,
  modules: WithApi,
): Promise<JobPlan> {
  if (length.kind === "faults") return { spec: openEnded(spec), estimateMs: jobTimeoutMs };
  if (length.kind === "job") return { spec, estimateMs: jobTimeoutMs };
  modules.note(`measuring an undisturbed ring of ${agentCount} to choose the number of epochs`);
  const measureMs = Math.min(measureMsMax, length.durationMs / 4);
  const speed = await measureSpeed(
    { ...modules, onView: () => {} },
    { spec, worldSize: agentCount, measureMs },
  );
  const estimateMs = epochsMargin * turnsMs({ everyMs, durationMs: length.durationMs });
  const steps = ((speed.examplesPerSecond / spec.batchSize) * estimateMs) / 1_000;
  const epochs = Math.max(1, Math.ceil(steps / speed.stepsPerEpoch));
  modules.note(`${epochs} epochs; about ${formatDuration(2 * estimateMs)} to go`);
  return { spec: { ...spec, epochs }, estimateMs };
}

/** The accuracy of the same job, undisturbed; null when there will be nothing to compare. */
async function runBaseline(
  { length }: ChaosOptions,
  { spec, estimateMs }: JobPlan,
  modules: WithApi,
): Promise<number | null> {
  if (length.kind === "faults") return null;
  modules.note(`the undisturbed run: ${spec.epochs} epochs`);
  const job = await runUndisturbed(modules, { spec, timeoutMs: patience * estimateMs });
  return job.evaluation!.accuracy!;
}

async function runDisturbed(options: ChaosOptions, spec: JobSpec, modules: WithApi): Promise<DisturbedRun> {
  const { cluster, folder, api, signal, note } = modules;
  note(`the disturbed run: ${describeLength(options)}`);
  const isEndless = options.length.kind === "faults";
  const observer = new JobObserver({
    ...{ api, signal, job: await api.submitJob(spec) },
    // The progress of a job without an end tells nobody anything.
    onView: isEndless ? () => {} : modules.onView,
  });
  const injector = new FaultInjector({ cluster, folder, observer, signal });
  try {
    await untilWhole(observer, options.agentCount);
    const { leftOut, stretches } = await strikeAndFinish(options, { ...modules, observer, injector });
    const { job } = observer;
    if (isEndless && job.state === "running") await api.cancelJob(job.id);
    return { observer, injector, job, leftOut, stretches };
  } finally {
    injector.endStalls();
    await observer.close();
  }
}

/** Strikes agents until it is enough, then waits for the end of the job. A job that failed is a result, not an error. */
async function strikeAndFinish(
  options: ChaosOptions,
  modules: WithApi & { readonly observer: JobObserver; readonly injector: FaultInjector },
): Promise<Pick<DisturbedRun, "leftOut" | "stretches">> {
  const { length, everyMs } = options;
  const { observer } = modules;
  const schedule = { ...modules, dice: new FaultDice(options), agentCount: options.agentCount };
  const fromMs = Date.now();
  const struck = (): Stretch => ({ kind: "struck", fromMs, toMs: Date.now() });
  try {
    if (length.kind === "faults") {
      await strikeWheneverWhole(schedule, { count: length.count });
      return { leftOut: 0, stretches: [struck()] };
    }
    const durationMs = length.kind === "time" ? length.durationMs : undefined;
    const turns = await strikeInTurns(schedule, { everyMs, durationMs });
    const what = "the end of the disturbed job";
    await observer.until(({ state }) => state === "succeeded", { timeoutMs: jobTimeoutMs, what });
    return turns;
  } catch (cause) {
    if (observer.job.state !== "failed") throw cause;
    return { leftOut: 0, stretches: [struck()] };
  }
}

function describeLength({ length, everyMs, signal }: ChaosOptions): string {
  const signals = { kill: "SIGKILL", stop: "SIGSTOP", mixed: "SIGKILL or SIGSTOP" }[signal];
  if (length.kind === "faults") return `${signals} ${length.count} times, whenever the ring is whole`;
  const until = length.kind === "job" ? "until the job ends" : `for ${length.durationMs / 60_000} min`;
  return `${signals} every ${everyMs / 1_000} s ${until}, with calm stretches between to compare with`;
}
