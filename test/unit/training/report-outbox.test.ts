import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { ReportOutbox } from "../../../agent/training/report-outbox.ts";
import type { JobReport } from "../../../protocol/messages/job-report.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";

/** A coordinator that hears what arrives, unless it is away. */
let clock: FakeClock;
let heard: JobReport[];
let away: boolean;
let outbox: ReportOutbox;

beforeEach(() => {
  clock = new FakeClock();
  heard = [];
  away = false;
  outbox = new ReportOutbox({
    clock,
    log: silentLog,
    send: async (report) => {
      await settle();
      if (away) throw new Error("nobody there");
      heard.push(report);
    },
  });
});

const jobId = "job-1";
const resumed = (step: number): JobReport => ({ kind: "resumed", jobId, generation: 1, step });
const checkpoint = (step: number): JobReport => ({
  ...{ kind: "checkpoint", jobId, generation: 1, artefact: digestOf("a") },
  point: { step, hash: digestOf("b") },
});
const failed = (message: string): JobReport => ({
  kind: "failed",
  jobId,
  code: "JOB_FAILED",
  message,
  fatal: true,
});
const progress = (step: number): JobReport => ({
  ...{ kind: "progress", jobId, generation: 1 },
  progress: {
    ...{ step, totalSteps: 10, epoch: 0, loss: 1, accuracy: 0, samplesPerSecond: 1 },
    ...{
      communicationMs: 1.5,
      hiddenCommunicationMs: 4,
      sentBytes: 4_096,
      communicationShare: 0,
      worldSize: 1,
      stallBoundMs: 2_000,
      skippedSteps: 0,
      points: [{ step, loss: 1, accuracy: 0 }],
    },
  },
});
/** The step of a report, or its message. */
const gist = (report: JobReport) => {
  if (report.kind === "checkpoint") return report.point.step;
  if (report.kind === "progress") return report.progress.step;
  return report.kind === "resumed" ? report.step : "message" in report && report.message;
};
const gists = () => heard.map(gist);
/** More turns than any number of reports in these tests needs. */
const allSent = () => clock.advance(0).then(() => settleTimes(700));
async function settleTimes(times: number): Promise<void> {
  for (let i = 0; i < times; i++) await settle();
}

test("reports arrive in order", async () => {
  for (const step of [1, 2, 3]) outbox.push(resumed(step));
  outbox.push(failed("x"));
  await allSent();
  expect(gists()).toEqual([1, 2, 3, "x"]);
  expect(clock.pendingTimers).toBe(0);
});

test("a coordinator that was away hears of everything, still in order", async () => {
  away = true;
  for (const step of [1, 2]) outbox.push(resumed(step));
  await clock.advance(10_000);
  away = false;
  outbox.push(resumed(3));
  await clock.advance(2_000);
  await allSent();
  expect(gists()).toEqual([1, 2, 3]);
});

test("attempts come after 100, 200, 400 ms, and then never more than 2 s apart", async () => {
  const attempts: number[] = [];
  const startedAtMs = clock.nowMs();
  const box = new ReportOutbox({
    clock,
    log: silentLog,
    send: async () => {
      attempts.push(clock.nowMs() - startedAtMs);
      throw new Error("nobody there");
    },
  });
  box.push(resumed(1));
  await clock.advance(8_000);
  expect(attempts).toEqual([0, 100, 300, 700, 1_500, 3_100, 5_100, 7_100]);
  box.close();
});

test("after a success the first retry is quick again", async () => {
  away = true;
  outbox.push(resumed(1));
  await clock.advance(5_000);
  away = false;
  await clock.advance(2_000);
  away = true;
  outbox.push(resumed(2));
  await settleTimes(3);
  away = false;
  await clock.advance(100);
  await allSent();
  expect(gists()).toEqual([1, 2]);
});

test("the return of the coordinator is used at once", async () => {
  away = true;
  outbox.push(resumed(1));
  await clock.advance(1_000);
  away = false;
  outbox.retryNow();
  await allSent();
  expect(gists()).toEqual([1]);
  expect(clock.pendingTimers).toBe(0);
});

test("only the newest progress is kept, and everything else stays in order around it", async () => {
  away = true;
  outbox.push(resumed(1));
  outbox.push(progress(2));
  await clock.advance(50);
  outbox.push(checkpoint(3));
  outbox.push(progress(4));
  outbox.push(progress(5));
  away = false;
  outbox.retryNow();
  await allSent();
  expect(gists()).toEqual([1, 3, 5]);
});

test("a progress that is on its way stays in its place", async () => {
  outbox.push(progress(1));
  outbox.push(progress(2));
  outbox.push(failed("end"));
  await allSent();
  expect(gists()).toEqual([1, 2, "end"]);
});

test("a full box lets go of the oldest merely informative report, never of the end", async () => {
  away = true;
  outbox.push(failed("first"));
  outbox.push(checkpoint(1));
  for (let i = 0; i < 253; i++) outbox.push(failed(`${i}`));
  outbox.push(checkpoint(2));
  outbox.push(failed("last"));
  outbox.push(failed("very last"));
  away = false;
  outbox.retryNow();
  await allSent();
  expect(heard).toHaveLength(256);
  expect(heard.filter(({ kind }) => kind === "checkpoint")).toEqual([]);
  expect(gists()[0]).toBe("first");
  expect(gists().slice(-2)).toEqual(["last", "very last"]);
});

test("the box never holds more than its bound, whatever is pushed while the coordinator is away", async () => {
  away = true;
  for (let i = 0; i < 5_000; i++) outbox.push(i % 3 === 0 ? failed(`${i}`) : resumed(i));
  away = false;
  outbox.retryNow();
  await allSent();
  expect(heard.length).toBeLessThanOrEqual(256);
  expect(gists().at(-1)).toBe(4_999);
});

const ended = (generation: number, ofJob = jobId): JobReport => ({
  ...{ kind: "ended", jobId: ofJob, generation, cause: "broken", stepMs: 1, suspect: null, detail: "" },
  point: { step: generation, hash: digestOf("b") },
});
const evaluated = (step: number): JobReport => ({
  ...{ kind: "evaluated", jobId, generation: 1, step },
  evaluation: { examples: 1, loss: step, accuracy: null, metrics: {} },
});

test("what a job has come to is heard however much is said after it", async () => {
  away = true;
  outbox.push(resumed(0));
  outbox.push(ended(1, "job-2"));
  outbox.push(ended(7));
  for (let step = 1; step < 2_000; step++) outbox.push(step % 2 === 0 ? evaluated(step) : failed(`${step}`));
  away = false;
  outbox.retryNow();
  await allSent();
  expect(heard.length).toBeLessThanOrEqual(256);
  expect(heard.filter(({ kind }) => kind === "ended")).toMatchObject([{ jobId: "job-2" }, { generation: 7 }]);
  expect(gists()).toContain("1999");
});

test("with nothing but the newest word of each job in it, it takes no more chatter, and still every end", async () => {
  away = true;
  for (let job = 0; job < 300; job++) outbox.push(ended(1, `job-${job}`));
  outbox.push(evaluated(1));
  away = false;
  outbox.retryNow();
  await allSent();
  expect(heard.map(({ kind }) => kind)).toEqual(Array(300).fill("ended"));
});

test("closed, it sends nothing more and leaves no timer", async () => {
  away = true;
  outbox.push(resumed(1));
  await clock.advance(50);
  outbox.close();
  away = false;
  outbox.push(resumed(2));
  outbox.retryNow();
  await clock.advance(10_000);
  expect(heard).toEqual([]);
  expect(clock.pendingTimers).toBe(0);
});

test("whenever the coordinator comes and goes, each report arrives once and in order", async () => {
  const pushes = fc.array(fc.record({ comes: fc.boolean(), passedMs: fc.nat(500) }), {
    minLength: 1,
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(pushes, async (moves) => {
      heard.length = 0;
      for (const [i, { comes, passedMs }] of moves.entries()) {
        away = !comes;
        outbox.push(resumed(i));
        await clock.advance(passedMs);
      }
      away = false;
      outbox.retryNow();
      await clock.advance(2_000);
      await settleTimes(80);
      expect(gists()).toEqual(moves.map((_, i) => i));
    }),
    { numRuns: 30 },
  );
});
