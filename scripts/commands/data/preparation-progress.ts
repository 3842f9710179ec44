import progressBars from "cli-progress";
import type { PreparationWatch } from "../../../agent/data/preparation/preparation-watch.ts";
import type { CommandContext } from "../command.ts";
import { formatDuration } from "../present/quantity.ts";

/** Where nobody looks, a log is not to grow line after line. */
const lineIntervalMs = 5_000;

export interface PreparationProgress extends PreparationWatch {
  /** Leaves the terminal as it was; call it whatever happens, more than once if need be. */
  close(): void;
}

/** Shows a preparation as it goes: a line for each stage, and for the writing a bar on a terminal, else a line at times. */
export function createPreparationProgress({ io, signal, note }: CommandContext): PreparationProgress {
  let bar: progressBars.SingleBar | undefined;
  let stage = "";
  let startedAtMs = Date.now();
  let toldAtMs = Date.now();
  const close = () => {
    bar?.stop();
    bar = undefined;
  };
  return {
    signal,
    stage(name) {
      close();
      stage = name;
      startedAtMs = toldAtMs = Date.now();
      note(`${name} ...`);
    },
    progress(done, total) {
      const nowMs = Date.now();
      if (io.stderr.isTTY) {
        bar ??= startBar(io.stderr as NodeJS.WriteStream, total);
        bar.update(done);
        return;
      }
      if (nowMs - toldAtMs < lineIntervalMs) return;
      toldAtMs = nowMs;
      const leftMs = done > 0 ? ((nowMs - startedAtMs) / done) * (total - done) : 0;
      note(`${stage}: ${done} of ${total} examples, ${formatDuration(leftMs)} left`);
    },
    close,
  };
}

function startBar(stream: NodeJS.WriteStream, total: number): progressBars.SingleBar {
  const bar = new progressBars.SingleBar(
    {
      stream,
      format: "{bar} {percentage}% {value}/{total} examples, {eta_formatted} left",
      hideCursor: true,
    },
    progressBars.Presets.shades_classic,
  );
  bar.start(total, 0);
  return bar;
}
