import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { JobView } from "../../../protocol/messages/api.ts";
import type { ApiClient } from "../../../scripts/commands/api-client.ts";
import { createJobProgress } from "../../../scripts/commands/follow/job-progress.ts";
import { tablesOf, tablesText } from "../../../scripts/commands/present/class-tables.ts";
import { formatCount, formatDuration, formatPercent } from "../../../scripts/commands/present/quantity.ts";
import { generation, jobView, progress } from "./views.ts";

const running = (step: number, generations = [generation(1, 0, "start")]) =>
  jobView({ state: "running", reason: "training", progress: progress(step), generations });

describe("the progress of a job", () => {
  test("off a terminal: a line every five seconds, news at once and once only", () => {
    let nowMs = 0;
    const lines: string[] = [];
    const shown = createJobProgress({
      stream: new PassThrough(),
      note: (line) => lines.push(line),
      nowMs: () => nowMs,
    });
    for (const [atMs, step] of [
      [0, 1],
      [4_999, 2],
      [5_000, 3],
      [9_000, 4],
      [10_000, 5],
    ] as const) {
      nowMs = atMs;
      shown.update(running(step));
    }
    shown.update(jobView({ state: "reforming", reason: "lab-2 left", generations: running(5).generations }));
    shown.update(jobView({ state: "reforming", reason: "lab-2 left", generations: running(5).generations }));
    shown.close();
    expect(lines.map((line) => line.split("  ")[0])).toEqual([
      "job-1 generation 1: world size 2 from step 0: start",
      "job-1 step 1/938",
      "job-1 step 3/938",
      "job-1 step 5/938",
      "job-1 reforming: lab-2 left",
    ]);
  });

  test("on a terminal: a bar that leaves no trace and no timer", () => {
    const terminal = Object.assign(new PassThrough(), {
      isTTY: true,
      cursorTo: () => true,
      moveCursor: () => true,
      clearLine: () => true,
      clearScreenDown: () => true,
      columns: 200,
    });
    terminal.setEncoding("utf8");
    const lines: string[] = [];
    const timersBefore = process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
    const shown = createJobProgress({ stream: terminal, note: (line) => lines.push(line), nowMs: () => 0 });
    shown.update(running(469));
    shown.update(running(470, [generation(1, 0, "start"), generation(2, 469, "lab-3 joined")]));
    shown.close();
    shown.close();
    expect(lines).toHaveLength(2);
    const text: string = terminal.read();
    expect(text).toContain("469/938");
    expect(text).toContain("6.40k samples/s");
    expect(process.getActiveResourcesInfo().filter((kind) => kind === "Timeout")).toHaveLength(timersBefore);
  });
});

test.each([
  [0, "0"],
  [0.5, "0.500"],
  [999, "999"],
  [1_000, "1.00k"],
  [12_345, "12.3k"],
  [1_234_567, "1.23M"],
  [220e9, "220G"],
])("count %d reads %s", (value, text) => expect(formatCount(value)).toBe(text));

test.each([
  [-5, "0s"],
  [59_499, "59s"],
  [59_500, "1m00s"],
  [185_000, "3m05s"],
  [7_620_000, "2h07m"],
  [356_400_000, "4d03h"],
])("%d ms read %s", (durationMs, text) => expect(formatDuration(durationMs)).toBe(text));

test("a share reads as per cent", () => expect(formatPercent(0.98214, 2)).toBe("98.21%"));

describe("tables of classes", () => {
  const metrics = { accuracy: 0.875, loss: 0.5, further: {}, testExamples: 8 };
  const tables = {
    confusion: [[3, 1], [0, 4]], // biome-ignore format: a class each
    classes: [0.75, 1].map((recall) => ({ support: 4, precision: 0.8, recall, f1: 0.8 })),
  };
  const ask = (view: JobView, answer: () => Promise<object>) =>
    tablesOf(view, { version: answer as unknown as ApiClient["version"] });
  const asking = jobView({
    version: "digits@2",
    spec: { ...jobView().spec, metrics: ["per-class", "confusion-matrix"] },
  });

  test("come from the version of a job that has asked for them", async () => {
    const answer = async () => ({ manifest: { metrics: { ...metrics, ...tables } } });
    expect(await ask(asking, answer)).toEqual(tables);
    const never = () => Promise.reject(new Error("nobody asks"));
    expect(await ask(jobView({ version: "digits@2" }), never)).toEqual({});
    expect(await ask({ ...asking, version: null }, never)).toEqual({});
    const gone = () => Promise.reject(new RingfoldError("NOT_FOUND", "there is no digits@2"));
    expect(await ask(asking, gone)).toEqual({});
    await expect(ask(asking, never)).rejects.toThrow("nobody asks");
  });

  test("are read by row: the class, then what was answered", () => {
    const text = tablesText(tables);
    expect(text).toMatch(/0\s+4\s+80\.00%\s+75\.00%\s+80\.00%/);
    expect(text).toMatch(/0\s+3\s+1\s*\n1\s+0\s+4/);
    expect(tablesText({})).toBe("");
  });
});
