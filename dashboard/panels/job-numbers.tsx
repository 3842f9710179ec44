import { formatCount, formatDuration, formatLoss, formatPercent, formatRate } from "../format.ts";
import { type Job, remainingMs } from "../views.ts";

interface JobNumber {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  /** What it is out of, quieter. */
  readonly of?: string | undefined;
  readonly value: number | null | undefined;
}

/** The newest numbers of a job. Those that are not known yet are dashes, never zeros. */
export function JobNumbers({ job, timeLeft = false }: { job: Job; timeLeft?: boolean }) {
  const { progress } = job;
  const numbers: JobNumber[] = [
    {
      id: "step",
      title: "Step",
      text: formatCount(progress?.step ?? null),
      of: progress ? ` / ${formatCount(progress.totalSteps)}` : undefined,
      value: progress?.step,
    },
    {
      id: "loss",
      title: "Loss",
      text: progress?.loss === null ? "not finite" : formatLoss(progress?.loss ?? null),
      value: progress?.loss,
    },
    {
      id: "accuracy",
      title: "Accuracy",
      text: formatPercent(progress?.accuracy ?? null),
      value: progress?.accuracy,
    },
    {
      id: "samples-per-second",
      title: "Samples/s",
      text: formatRate(progress?.samplesPerSecond ?? null),
      value: progress?.samplesPerSecond,
    },
    {
      id: "world-size",
      title: "World size",
      text: formatCount(progress?.worldSize ?? null),
      value: progress?.worldSize,
    },
    {
      id: "communication-share",
      title: "Communication",
      text: formatPercent(progress?.communicationShare ?? null, 1),
      value: progress?.communicationShare,
    },
  ];
  if (progress && progress.skippedSteps > 0) {
    numbers.push({
      id: "skipped-steps",
      title: "Updates left out",
      text: formatCount(progress.skippedSteps),
      value: progress.skippedSteps,
    });
  }
  if (timeLeft) {
    numbers.push({
      id: "time-left",
      title: "Time left",
      text: formatDuration(remainingMs(job)),
      value: undefined,
    });
  }
  return (
    <dl class="numbers">
      {numbers.map(({ id, title, text, of, value }) => (
        <div key={id} class={`number-${id}`}>
          <dt>{title}</dt>
          {/* data-value: the number before it was rounded, for programs that read the page. */}
          <dd data-testid={`job-${id}`} data-value={value ?? undefined}>
            {text}
            {of ? <span class="of">{of}</span> : null}
          </dd>
        </div>
      ))}
    </dl>
  );
}
