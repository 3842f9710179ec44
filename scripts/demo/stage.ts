import { once } from "node:events";
import type { Writable } from "node:stream";
import { createJobProgress, type JobProgress } from "../commands/follow/job-progress.ts";
import { formatDuration } from "../commands/present/quantity.ts";
import type { DemoSummary } from "./story.ts";

/** Where the demo speaks. */
export interface Stage {
  readonly progress: JobProgress;
  chapter(title: string): void;
  say(line: string): void;
  summary(summary: DemoSummary): void;
  keepUntil(signal: AbortSignal, dashboardUrl: string): Promise<void>;
  close(): void;
}

export function createStage(stream: Writable & { readonly isTTY?: boolean }): Stage {
  const say = (line: string) => void stream.write(`${line}\n`);
  const progress = createJobProgress({ stream, note: (line) => say(`  ${line}`), nowMs: Date.now });
  let chapters = 0;
  return {
    progress,
    say: (line) => say(`  ${line}`),
    chapter: (title) => say(`\n${++chapters}. ${title}`),
    summary: (s) => {
      say("\nDone.");
      const rows: [string, string][] = [
        ["test accuracy", `${(100 * s.accuracy).toFixed(2)}% of 10,000 images that no step saw`],
        ["steps", `${s.steps}, none lost`],
        ["world sizes", s.worldSizes.join(" -> ")],
        ["killed", `${s.killedAgent.name}, by SIGKILL at step ${s.killedAgent.atStep}`],
        ["recovery", `${s.recoveryMs} ms to the next committed step`],
        ["version", s.version],
        [
          "predictions",
          `${s.predictions.filter(({ label, predicted }) => label === predicted).length} of ${s.predictions.length} right`,
        ],
        ["time", formatDuration(1_000 * s.seconds)],
      ];
      for (const [name, value] of rows) say(`  ${name.padEnd(14)}${value}`);
    },
    keepUntil: async (signal, dashboardUrl) => {
      say(`\nThe cluster stays up: ${dashboardUrl} (Ctrl-C ends it).`);
      if (!signal.aborted) await once(signal, "abort");
    },
    close: () => progress.close(),
  };
}
