import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { SweepSummary, SweepView } from "../../../protocol/messages/sweep.ts";
import { createSweepProgress } from "../../../scripts/commands/follow/sweep-progress.ts";
import { sweepText } from "../../../scripts/commands/present/sweep-text.ts";
import { type CoordinatorServer, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { clusterView } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

const startedAtMs = 1_700_000_000_000;
const trial = (number: number, learningRate: number, changes: Partial<SweepView["trials"][number]> = {}) => ({
  ...{ number, parameters: { "optimizer.learningRate": learningRate, "model.hidden": [64, 32] } },
  ...{ state: "stopped", rung: 0, jobId: `job-${number}`, step: 200, totalSteps: 1_800, value: 0.8 },
  ...{ version: null, reason: "others are better" },
  ...changes,
});
const summary = (changes: Partial<SweepSummary> = {}): SweepSummary => ({
  ...{ id: "sweep-1", name: "digits", config: null, method: "halving", metric: "accuracy", state: "running" },
  ...{ reason: "1 of 3 trials are over", submittedAtMs: startedAtMs, startedAtMs, endedAtMs: null },
  ...{ trialCount: 3, runningCount: 2, overCount: 1, epochsDone: 5, epochsPlanned: 20 },
  ...{ best: { number: 2, value: 0.9125, jobId: "job-2" }, version: null },
  ...changes,
});
const view = (changes: Partial<SweepSummary> = {}): SweepView => ({
  ...summary(changes),
  rungs: [
    { epochs: 1, trials: 3 },
    { epochs: 9, trials: 1 },
  ],
  trials: [
    trial(1, 0.1),
    trial(2, 0.01, { state: "succeeded", rung: 1, step: 1_800, value: 0.9125, version: "digits-trial-2@1" }),
    trial(3, 0.001, {
      state: "waiting",
      jobId: null,
      step: 0,
      totalSteps: null,
      value: null,
      reason: "waits",
    }),
  ] as SweepView["trials"],
});
const over = { state: "succeeded", endedAtMs: startedAtMs + 65_000, version: "digits@1" } as const;

let folder: string;
let sweepFile: string;
let server: CoordinatorServer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-sweep-"));
  sweepFile = join(folder, "sweep.yaml");
  const job = "name: digits\nmodel: { architecture: mlp }\ndata: { source: mnist }\nepochs: 9\n";
  const search = "search:\n  method: grid\n  space:\n    optimizer.learningRate: { values: [0.1, 0.01] }\n";
  await writeFile(sweepFile, job + search);
  await writeFile(join(folder, "wrong.yaml"), `${job}${search.replace("optimizer.", "optimiser.")}`);
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(async () => {
  server = await startCoordinatorServer();
  server.routes.set("POST /api/sweeps", () => ({ status: 201, body: view() }));
});
afterEach(() => server[Symbol.asyncDispose]());
const env = () => ({ RINGFOLD_COORDINATOR: server.url, RINGFOLD_OPERATOR_TOKEN: "operator" });
const run = (...userArguments: string[]) => runRingfold(userArguments, { env: env() });

test("submits the file with its defaults and says how to go on", async () => {
  const { exitCode, stdout } = await run("sweep", sweepFile);
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout:
      "sweep-1 submitted: 3 trials\nfollow: ringfold sweeps follow sweep-1\ncancel: ringfold sweeps cancel sweep-1\n",
  });
  expect(server.requests[0]).toMatchObject({
    authorization: "Bearer operator",
    body: { name: "digits", workers: { min: 1, max: 1 }, search: { method: "grid", metric: "loss" } },
  });
});

test("a wrong key of the space stands at its line, and reaches no coordinator", async () => {
  const { exitCode, stderr } = await run("sweep", join(folder, "wrong.yaml"));
  expect(exitCode).toBe(65);
  expect(stderr).toContain(
    "wrong.yaml:8:5 search.space.optimiser.learningRate: is no key of this job: did you mean optimizer.learningRate?",
  );
  expect(server.requests).toEqual([]);
});

test.each([
  [over, 0],
  [{ state: "failed", reason: "no trial has measured loss" } as const, 1],
  [{ state: "cancelled", reason: "cancelled by an operator" } as const, 130],
])("--follow ends with the sweep: %j ends with %i", async (end, expected) => {
  server.routes.set("GET /api/sweeps/sweep-1", () => ({ body: view(end) }));
  const { outcome } = startRingfold(["sweep", sweepFile, "--follow"], { env: env() });
  const events = await server.nextSubscriber();
  events.publish(clusterView({ sweeps: [summary()], nowMs: startedAtMs + 10_000 }));
  events.publish(clusterView({ sweeps: [summary(end)] }));
  const { exitCode, stdout, stderr } = await outcome;
  expect(exitCode).toBe(expected);
  expect(stderr).toContain(
    "sweep-1 5/20 epochs  1/3 trials over, 2 running  best trial 2: accuracy 0.9125  ETA 30s",
  );
  expect(expected === 0 ? stdout : stderr).toContain(expected === 0 ? "digits-trial-2@1" : end.state);
});

test("Ctrl-C detaches: the sweep goes on and the way back is told", async () => {
  const { child, outcome } = startRingfold(["sweeps", "follow", "sweep-1"], { env: env() });
  (await server.nextSubscriber()).publish(clusterView({ sweeps: [summary()] }));
  child.kill("SIGINT");
  const { exitCode, stderr } = await outcome;
  expect(exitCode).toBe(130);
  expect(stderr).toContain("detached: sweep-1 goes on");
});

test("lists, shows and cancels; a failed one is shown with 1", async () => {
  server.routes.set("GET /api/sweeps?limit=1000", () => ({ body: { items: [summary()], next: null } }));
  server.routes.set("GET /api/sweeps/sweep-1", () => ({ body: view({ state: "failed" }) }));
  server.routes.set("POST /api/sweeps/sweep-1/cancel", ({ body }) => ({
    body: view({ state: "cancelled", reason: (body as { reason: string }).reason }),
  }));
  for (const list of [["sweeps"], ["sweeps", "list"]])
    expect((await run(...list)).stdout).toContain("sweep-1  digits  halving  running  1/3");
  expect((await run("sweeps", "show", "sweep-1")).exitCode).toBe(1);
  const cancelled = await run("sweeps", "cancel", "sweep-1", "--reason", "enough");
  expect(cancelled.stdout).toBe("sweep-1 cancelled: enough\n");
  expect(JSON.parse((await run("sweeps", "--json")).stdout)).toEqual([summary()]);
});

test("the table of trials: a column a key, the best marked, no reason twice", () => {
  const lines = sweepText(view(over), startedAtMs + 99_000).split("\n");
  expect(lines).toContain("rungs         3 x 1 epochs, 1 x 9 epochs");
  expect(lines).toContain("running time  1m05s");
  expect(lines).toContain("best          trial 2: accuracy 0.9125");
  const table = lines.slice(lines.indexOf("") + 1).map((line) => line.split(/ {2,}/));
  expect(table).toEqual([
    [
      "TRIAL",
      "OPTIMIZER.LEARNINGRATE",
      "MODEL.HIDDEN",
      "STATE",
      "RUNG",
      "STEP",
      "ACCURACY",
      "JOB",
      "VERSION",
      "REASON",
    ],
    ["1", "0.1", "[64,32]", "stopped", "1/2", "200/1800", "0.8", "job-1", "-", "others are better"],
    [
      "2 *",
      "0.01",
      "[64,32]",
      "succeeded",
      "2/2",
      "1800/1800",
      "0.9125",
      "job-2",
      "digits-trial-2@1",
      "others are better",
    ],
    ["3", "0.001", "[64,32]", "waiting", "1/2", "-", "-", "-", "-", "waits"],
  ]);
});

test("the bar leaves no trace and no timer", () => {
  const quiet = {
    cursorTo: () => true,
    moveCursor: () => true,
    clearLine: () => true,
    clearScreenDown: () => true,
  };
  const terminal = Object.assign(new PassThrough(), { isTTY: true, columns: 200, ...quiet });
  terminal.setEncoding("utf8");
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  const before = timers();
  const shown = createSweepProgress({ stream: terminal, note: () => {}, nowMs: () => 0 });
  shown.update(summary({ epochsDone: 0, best: null }), startedAtMs);
  shown.update(summary(), startedAtMs + 10_000);
  shown.close();
  shown.close();
  expect(terminal.read()).toContain("1/3 trials over, 2 running");
  expect(timers()).toBe(before);
});
