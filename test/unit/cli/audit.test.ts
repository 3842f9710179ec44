import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { AuditEntry } from "../../../protocol/messages/audit.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { type CoordinatorServer, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";

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
test("the whole log, over as many pages as it has, a line an entry", async () => {
  const second = entry(2, { who: { kind: "coordinator" }, decision: [] });
  const asked = "GET /api/audit?limit=1000";
  server.routes.set(`${asked}&sinceMs=0`, () => ({ body: { items: [entry(1)], next: "there" } }));
  server.routes.set(`${asked}&cursor=there&sinceMs=0`, () => ({ body: { items: [second], next: null } }));
  const { exitCode, stdout } = await runRingfold(["audit"], { env: env() });
  expect(exitCode).toBe(0);
  expect(stdout.trimEnd().split("\n")).toEqual([
    "1 2026-11-23T12:00:00.000Z t2 operator job-cancelled: job-1 digits: cancelled  [job/job-1(state reason)]",
    "2 2026-11-23T12:00:00.000Z t2 coordinator job-cancelled: job-1 digits: cancelled",
  ]);
});

test("with --json: the entries; a job and a time are asked for", async () => {
  const query = "limit=1000&sinceMs=1763895600000&job=job-1";
  server.routes.set(`GET /api/audit?${query}`, () => ({ body: [entry(7)] }));
  const asked = ["audit", "--json", "--job", "job-1", "--since", "2025-11-23T11:00:00Z"];
  const { stdout } = await runRingfold(asked, { env: env() });
  expect(JSON.parse(stdout)).toEqual([entry(7)]);
});

test("who, what about, what kind and until when are asked for, and a file gets a line of JSON each", async () => {
  const query = "sinceMs=0&untilMs=1763895600000&who=operator&subject=model+digits&kind=alias-moved";
  server.routes.set(`GET /api/audit?limit=1000&${query}`, () => ({ body: [entry(7), entry(9)] }));
  const filters = ["--who", "operator", "--subject", "model digits", "--kind", "alias-moved"];
  const path = join(temporaryFolder(), "audit.jsonl");
  const asked = ["audit", ...filters, "--until", "2025-11-23T11:00:00Z"];
  const { stdout } = await runRingfold([...asked, "--export", path, "--json"], { env: env() });
  expect(JSON.parse(stdout)).toEqual({ file: path, decisions: 2 });
  const lines = (text: string) =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  expect(lines(readFileSync(path, "utf8"))).toEqual([entry(7), entry(9)]);
  expect(lines((await runRingfold([...asked, "--export", "-"], { env: env() })).stdout)).toHaveLength(2);
});

test("a kind that there is not is a usage error, which names those that there are", async () => {
  const { exitCode, stderr } = await runRingfold(["audit", "--kind", "nonsense"], { env: env() });
  expect(exitCode).toBe(64);
  expect(stderr).toContain("token-created");
});

test("--follow tells what is new, once, over a broken connection too", async () => {
  const { child, outcome } = startRingfold(["audit", "--follow", "--json"], { env: env() });
  let stdout = "";
  const lines = (count: number) =>
    vi.waitUntil(() => stdout.split("\n").length > count, { timeout: 20_000, interval: 20 });
  child.stdout?.on("data", (chunk) => {
    stdout += String(chunk);
  });
  const first = await server.nextSubscriber();
  expect(first).toMatchObject({ path: "/api/audit?sinceMs=0", lastEventId: undefined });
  first.send("change", { put: [entry(1)], removed: [] }, "1");
  first.send("quiet", {}, "4");
  await lines(1);
  first.cut();
  const second = await server.nextSubscriber();
  expect(second.lastEventId).toBe("4");
  second.send("change", { put: [entry(5), entry(6)], removed: [] }, "6");
  await lines(3);
  child.kill("SIGINT");
  expect((await outcome).exitCode).toBe(0);
  expect(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).sequence),
  ).toEqual([1, 5, 6]);
});

test("a time that is none is a usage error", async () => {
  expect((await runRingfold(["audit", "--since", "soon"], { env: env() })).exitCode).toBe(64);
});
