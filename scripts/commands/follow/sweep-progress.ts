import type { Writable } from "node:stream";
import progressBars from "cli-progress";
import type { SweepSummary } from "../../../protocol/messages/sweep.ts";
import { formatDuration, formatMetric } from "../present/quantity.ts";
import { bestText, remainingMs } from "../present/sweep-text.ts";

const lineIntervalMs = 5_000;

interface SweepProgress {
  /** @param nowMs of the coordinator's clock, by which the sweep has begun */
  update(sweep: SweepSummary, nowMs: number): void;
  /** Leaves the terminal as it was; call it whatever happens. */
  close(): void;
}

/** Shows a sweep as it goes, by the epochs that its trials have been trained for: a bar on a terminal, lines elsewhere. */
export function createSweepProgress(options: {
  readonly stream: Writable & { readonly isTTY?: boolean };
  readonly note: (line: string) => void;
  readonly nowMs: () => number;
}): SweepProgress {
  const { stream, note, nowMs } = options;
  let lastLineMs = Number.NEGATIVE_INFINITY;
  const bar = stream.isTTY
    ? new progressBars.SingleBar({
        format: "{sweep} {bar} {percentage}%  {measures}",
        stream: stream as NodeJS.WritableStream,
        barsize: 20,
        barCompleteChar: "\u2588",
        barIncompleteChar: "\u2591",
        clearOnComplete: true,
      })
    : undefined;
  return {
    update(sweep, atMs) {
      const told = { sweep: sweep.id, measures: measures(sweep, atMs) };
      if (bar?.isActive) {
        bar.setTotal(sweep.epochsPlanned);
        bar.update(sweep.epochsDone, told);
      } else if (bar) bar.start(sweep.epochsPlanned, sweep.epochsDone, told);
      else if (nowMs() - lastLineMs >= lineIntervalMs) {
        lastLineMs = nowMs();
        const { epochsDone, epochsPlanned } = sweep;
        note(
          `${sweep.id} ${formatMetric(epochsDone)}/${formatMetric(epochsPlanned)} epochs  ${told.measures}`,
        );
      }
    },
    close: () => bar?.stop(),
  };
}

function measures(sweep: SweepSummary, nowMs: number): string {
  const remaining = remainingMs(sweep, nowMs);
  return [
    `${sweep.overCount}/${sweep.trialCount} trials over, ${sweep.runningCount} running`,
    `best ${bestText(sweep)}`,
    `ETA ${remaining === undefined ? "-" : formatDuration(remaining)}`,
  ].join("  ");
}
