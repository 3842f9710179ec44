import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JobLogs } from "../../../protocol/messages/job-log.ts";
import { type CoordinatorServer, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold } from "./ringfold-process.ts";

vi.setConfig({ testTimeout: 30_000 });

let server: CoordinatorServer;
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());
const run = (...args: string[]) =>
  runRingfold(args, {
    env: { RINGFOLD_COORDINATOR: server.url, RINGFOLD_OPERATOR_TOKEN: "operator" },
  });

const peers = ["A", "B"].map((letter) => `12D3KooW${letter.repeat(44)}`);
const logs = (rank: number, text: string, changes: Partial<JobLogs> = {}): JobLogs => ({
  pieces: [{ peerId: peers[rank]!, name: `lab-${rank}`, rank, text, skippedBytes: 0 }],
  ...{ unreachable: [], next: "a:1", hasMore: false, isOver: true },
  ...changes,
});

test("lines of all ranks, also those that come in pieces, without what drives a terminal", async () => {
  const first = logs(0, "loss 0.5\n10%\r20%\rdo", { hasMore: true, next: "a:20" });
  server.routes.set("GET /api/jobs/job-1/logs", () => ({ body: first }));
  const second = logs(1, "\u001b[31mred\u001b[0m\u0007\n");
  second.pieces.unshift({ ...first.pieces[0]!, text: "ne\nlast" });
  server.routes.set("GET /api/jobs/job-1/logs?after=a%3A20", () => ({ body: second }));
  const { exitCode, stdout } = await run("jobs", "logs", "job-1");
  expect(stdout.split("\n")).toEqual([
    "[rank 0 lab-0] loss 0.5",
    "[rank 0 lab-0] done",
    "[rank 1 lab-1] red\u{fffd}",
    "[rank 0 lab-0] last",
    "",
  ]);
  expect(exitCode).toBe(0);
  expect(server.requests[0]!.authorization).toBe("Bearer operator");
});

test("--rank shows one, --json gives a document a line, --follow goes on until the job is over", async () => {
  const answers = [
    logs(0, "zero\n", { isOver: false, next: "a:5" }),
    logs(1, "one\n", { isOver: false, next: "a:5,b:4" }),
    logs(1, "over\n"),
  ];
  for (const query of ["", "?after=a%3A5", "?after=a%3A5%2Cb%3A4"])
    server.routes.set(`GET /api/jobs/job-1/logs${query}`, () => ({ body: answers.shift() }));
  const { stdout } = await run("jobs", "logs", "job-1", "--follow", "--rank", "1", "--json");
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual([
    { agent: "lab-1", rank: 1, text: "one" },
    { agent: "lab-1", rank: 1, text: "over" },
  ]);
});
