import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { RolloutView } from "../../../protocol/messages/rollout.ts";
import { type CoordinatorServer, problem, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { clusterView } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

let server: CoordinatorServer;
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());

const env = () => ({ RINGFOLD_COORDINATOR: server.url });
const run = (...userArguments: string[]) => runRingfold(userArguments, { env: env() });

const rollout = (changes: Partial<RolloutView> = {}): RolloutView => ({
  ...{ name: "digits", number: 3, version: 2, fromVersion: 1, deployment: 4, alias: null },
  ...{
    state: "progressing",
    reason: "holds 25% for 60 s; fails 0% of 120",
    steps: [5, 25, 50, 100],
    step: 2,
  },
  ...{ weight: 25, holdSeconds: 60, progressDeadlineSeconds: 600, startedAtMs: 0, endedAtMs: null },
  bounds: { maxErrorRate: 0.02, maxLatencyRatio: 1.5, latencySlackMs: 10, minRequests: 100 },
  evidence: {
    candidate: { requests: 120, errors: { NOT_FINITE: 2 }, p95Ms: 12.34 },
    live: { requests: 360, errors: {}, p95Ms: 11 },
  },
  ...changes,
});

test("start sends what was said, and leaves the rest to the coordinator", async () => {
  server.routes.set("POST /api/rollouts", () => ({ status: 201, body: rollout() }));
  expect(await run("rollout", "start", "digits@2")).toMatchObject({ exitCode: 0 });
  const options = [
    "--steps",
    "10,100",
    "--hold",
    "5m",
    "--max-error-rate",
    "0.5%",
    "--max-latency-ratio",
    "2",
  ];
  const more = [
    "--latency-slack",
    "0",
    "--min-requests",
    "7",
    "--progress-deadline",
    "90s",
    "--alias",
    "champion",
  ];
  await run("rollout", "start", "digits@canary", ...options, ...more, "--replicas", "3");
  expect(server.requests.map(({ body }) => body)).toEqual([
    { name: "digits", version: 2, bounds: {} },
    {
      ...{
        name: "digits",
        version: "canary",
        steps: [10, 100],
        holdSeconds: 300,
        progressDeadlineSeconds: 90,
      },
      ...{ alias: "champion", replicas: 3 },
      bounds: { maxErrorRate: 0.005, maxLatencyRatio: 2, latencySlackMs: 0, minRequests: 7 },
    },
  ]);
});

test.each([
  ["--steps", "50,25"],
  ["--steps", "0,50"],
  ["--steps", "50,101"],
  ["--steps", "half"],
  ["--max-error-rate", "200%"],
  ["--max-error-rate", "-1"],
  ["--max-latency-ratio", "0.9"],
  ["--hold", "5"],
])("%s %s is a slip: 64", async (option, value) => {
  expect(await run("rollout", "start", "digits@2", `${option}=${value}`)).toMatchObject({ exitCode: 64 });
  expect(server.requests).toEqual([]);
});

test("show has the state, the reason and both sides", async () => {
  server.routes.set("GET /api/rollouts/digits", () => ({ body: rollout() }));
  const { stdout } = await run("rollout", "show", "digits");
  expect(stdout).toMatch(/^state +progressing$/m);
  expect(stdout).toMatch(/^steps +2\/4 of 5, 25, 50, 100%\nweight +25%$/m);
  expect(stdout).toMatch(/^digits@2 +120 +2 +12 ms +NOT_FINITE 2$/m);
  expect(stdout).toMatch(/^digits@1 +360 +0 +11 ms$/m);
});

test("list has a line each", async () => {
  server.routes.set("GET /api/rollouts", () => ({ body: { items: [rollout()], next: null } }));
  expect((await run("rollout")).stdout).toMatch(
    /^digits@2 +@1 +progressing +2\/4 +25% +120 +2 +12 ms +holds 25%/m,
  );
});

test("orders go where they belong, with their reason", async () => {
  for (const order of ["pause", "resume", "promote", "abort"])
    server.routes.set(`POST /api/rollouts/digits/${order}`, () => ({ body: rollout() }));
  await run("rollout", "pause", "digits", "--reason", "lunch");
  await run("rollout", "promote", "digits", "--full");
  await run("rollout", "undo", "digits");
  expect(server.requests.map(({ body }) => body)).toEqual([
    { reason: "lunch" },
    { reason: "", full: true },
    { reason: "" },
  ]);
  server.routes.set("POST /api/rollouts/digits/resume", () => problem(409, "CONFLICT", "it is over"));
  expect(await run("rollout", "resume", "digits")).toMatchObject({ exitCode: 65 });
});

test.each([
  { state: "promoted", exitCode: 0, says: /^state +promoted$/m },
  { state: "rolled-back", exitCode: 1, says: /digits@2 rolled-back: it fails 40% of 50/ },
] as const)("status follows it to its end: $state", async ({ state, exitCode, says }) => {
  server.routes.set("GET /api/rollouts/digits", () => ({ body: rollout() }));
  const { outcome } = startRingfold(["rollout", "status", "digits"], { env: env() });
  const events = await server.nextSubscriber();
  events.publish(clusterView({ rollouts: [rollout()] }));
  events.publish(clusterView({ rollouts: [rollout({ state, reason: "it fails 40% of 50", endedAtMs: 9 })] }));
  const { stdout, stderr, exitCode: ended } = await outcome;
  expect(ended).toBe(exitCode);
  expect(stderr).toContain("digits@2 progressing at 25%: holds 25% for 60 s");
  expect(stdout + stderr).toMatch(says);
});
