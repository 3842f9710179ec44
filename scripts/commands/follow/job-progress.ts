import type { Writable } from "node:stream";
import progressBars from "cli-progress";
import type { JobView } from "../../../protocol/messages/api.ts";
import { formatCount, formatDuration, formatLoss, formatPercent } from "../present/quantity.ts";
import { hasEnded } from "./cluster-follower.ts";

/** Often enough to see that it lives, seldom enough that the log of a long job stays readable. */
const lineIntervalMs = 5_000;

export interface JobProgress {
  update(job: JobView): void;
  /** Writes a line of somebody else's that stays. */
  say(line: string): void;
  /** Leaves the terminal as it was; call it whatever happens. */
  close(): void;
}

export interface JobProgressOptions {
  readonly stream: Writable & { readonly isTTY?: boolean };
  /** Writes a line that stays, above the bar where there is one. */
  readonly note: (line: string) => void;
  readonly nowMs: () => number;
}

/**
 * Shows a job as it goes: a bar on a terminal, a line every five seconds elsewhere, and in both cases one line for each
 * new generation and for each reason to wait.
 */
export function createJobProgress(options: JobProgressOptions): JobProgress {
  const steps = options.stream.isTTY ? createBar(options) : createLines(options);
  const announced = new Set<number>();
  let lastReason = "";
  return {
    update(job) {
      for (const line of newsOf(job, announced)) steps.interrupt(line);
      // How it ended is the result, and told by the command.
      const quiet = job.state === "running" || hasEnded(job);
      const reason = quiet ? "" : `${job.state}: ${job.reason}`;
      if (reason !== lastReason && reason !== "") steps.interrupt(`${job.id} ${reason}`);
      lastReason = reason;
      if (job.progress && job.state === "running") steps.show(job, job.progress);
    },
    say: (line) => steps.interrupt(line),
    close: () => steps.close(),
  };
}

/** Lines for the generations that nobody has been told of yet; adds them to `announced`. */
function newsOf(job: JobView, announced: Set<number>): string[] {
  const fresh = job.generations.filter(({ generation }) => !announced.has(generation));
  for (const { generation } of fresh) announced.add(generation);
  return fresh.map(
    ({ generation, ranks, startStep, reason }) =>
      `${job.id} generation ${generation}: world size ${ranks.length} from step ${startStep}: ${reason}`,
  );
}

interface StepView {
  show(job: JobView, progress: NonNullable<JobView["progress"]>): void;
  interrupt(line: string): void;
  close(): void;
}

function createLines({ note, nowMs }: JobProgressOptions): StepView {
  let lastLineMs = Number.NEGATIVE_INFINITY;
  return {
    show(job, progress) {
      if (nowMs() - lastLineMs < lineIntervalMs) return;
      lastLineMs = nowMs();
      note(`${job.id} step ${progress.step}/${progress.totalSteps}  ${measures(job, progress)}`);
    },
    interrupt: note,
    close: () => {},
  };
}

function createBar({ stream, note }: JobProgressOptions): StepView {
  const bar = new progressBars.SingleBar({
    format: "{job} {bar} {value}/{total}  {measures}",
    stream: stream as NodeJS.WritableStream,
    barsize: 20,
    barCompleteChar: "\u2588",
    barIncompleteChar: "\u2591",
    // Cleared whenever a line has to stand above it; the result is printed by the command.
    clearOnComplete: true,
  });
  let active = false;
  const clear = (): void => {
    if (active) bar.stop();
    active = false;
  };
  return {
    show(job, progress) {
      const payload = { job: job.id, measures: measures(job, progress) };
      if (active) bar.update(progress.step, payload);
      else bar.start(progress.totalSteps, progress.step, payload);
      active = true;
    },
    interrupt(line) {
      clear();
      note(line);
    },
    close: clear,
  };
}

function measures(job: JobView, progress: NonNullable<JobView["progress"]>): string {
  const { loss, accuracy, samplesPerSecond, worldSize, communicationShare } = progress;
  return [
    `loss ${formatLoss(loss)}`,
    ...(accuracy === null ? [] : [`accuracy ${formatPercent(accuracy)}`]),
    `${formatCount(samplesPerSecond)} samples/s`,
    `world size ${worldSize}`,
    `ring ${formatPercent(communicationShare, 0)}`,
    `ETA ${remaining(job, progress)}`,
  ].join("  ");
}

/** From the measured speed: cli-progress would count the time in which the ring re-formed as training time. */
function remaining(job: JobView, progress: NonNullable<JobView["progress"]>): string {
  const stepsLeft = progress.totalSteps - progress.step;
  if (job.spec.engine === "torch") {
    // The batch is the script's, so from the time of a step.
    const { communicationMs, communicationShare } = progress;
    return communicationShare > 0 ? formatDuration((stepsLeft * communicationMs) / communicationShare) : "-";
  }
  if (progress.samplesPerSecond <= 0) return "-";
  const samples = stepsLeft * job.spec.batchSize;
  return formatDuration((samples / progress.samplesPerSecond) * 1_000);
}
