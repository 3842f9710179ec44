import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { AuditEntry } from "../../../protocol/messages/audit.ts";
import { type CoordinatorServer, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { clusterView } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

let server: CoordinatorServer;
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());

const entry = (sequence: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  ...{ sequence, atMs: Date.UTC(2026, 10, 23, 12), term: 2, who: { kind: "operator" }, isNews: true },
  ...{ subject: "job-1 digits", event: { kind: "job-cancelled", jobId: "job-1" }, reason: "cancelled" },
  decision: [{ record: "job/job-1", fields: ["state", "reason"] }],
  ...more,
});
const env = () => ({ RINGFOLD_COORDINATOR: server.url });
const page = (after: number, entries: AuditEntry[], last: number) =>
  server.routes.set(`GET /api/audit?after=${after}&sinceMs=0`, () => ({
    body: { entries, next: entries.at(-1)?.sequence ?? after, last },
  }));

test("the whole log, over as many pages as it has, a line an entry", async () => {
  page(0, [entry(1)], 2);
  page(1, [entry(2, { who: { kind: "coordinator" }, decision: [] })], 2);
  const { exitCode, stdout } = await runRingfold(["audit"], { env: env() });
  expect(exitCode).toBe(0);
  expect(stdout.trimEnd().split("\n")).toEqual([
    "1 2026-11-23T12:00:00.000Z t2 operator job-cancelled: job-1 digits: cancelled  [job/job-1(state reason)]",
    "2 2026-11-23T12:00:00.000Z t2 coordinator job-cancelled: job-1 digits: cancelled",
  ]);
});

test("with --json: the entries; a job and a time are asked for", async () => {
  server.routes.set("GET /api/audit?after=0&sinceMs=1763895600000&job=job-1", () => ({
    body: { entries: [entry(7)], next: 7, last: 7 },
  }));
  const asked = ["audit", "--json", "--job", "job-1", "--since", "2025-11-23T11:00:00Z"];
  const { stdout } = await runRingfold(asked, { env: env() });
  expect(JSON.parse(stdout)).toEqual([entry(7)]);
});

test("--follow tells what is new after each change, once", async () => {
  page(0, [entry(1)], 1);
  const { child, outcome } = startRingfold(["audit", "--follow", "--json"], { env: env() });
  const events = await server.nextSubscriber();
  let stdout = "";
  const lines = (count: number) =>
    vi.waitUntil(() => stdout.split("\n").length > count, { timeout: 20_000, interval: 20 });
  child.stdout?.on("data", (chunk) => {
    stdout += String(chunk);
  });
  events.publish(clusterView({}));
  await lines(1);
  page(1, [entry(2)], 2);
  events.publish(clusterView({}));
  await lines(2);
  child.kill("SIGINT");
  expect((await outcome).exitCode).toBe(0);
  expect(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).sequence),
  ).toEqual([1, 2]);
});

test("a time that is none is a usage error", async () => {
  expect((await runRingfold(["audit", "--since", "soon"], { env: env() })).exitCode).toBe(64);
});
