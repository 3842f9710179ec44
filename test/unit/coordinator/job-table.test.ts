import { expect, test } from "vitest";
import { type JobRecord, newJob } from "../../../coordinator/decide/job-record.ts";
import { JobTable } from "../../../coordinator/job-table.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

const jobOf = (number: number, changes: Partial<JobRecord> = {}): JobRecord => ({
  ...newJob(`job-${number}`, exampleSpec(), 0),
  ...changes,
});

const members = (...peerIds: string[]): JobRecord["members"] =>
  Object.fromEntries(peerIds.map((peerId) => [peerId, { peerId } as JobRecord["members"][string]]));

const ids = (jobs: Iterable<JobRecord>) => [...jobs].map(({ id }) => id);

test("what is over is not looked at any more, and counts as a change of what has ended", () => {
  const table = new JobTable([jobOf(1), jobOf(2, { state: "failed" })]);
  expect(ids(table.open())).toEqual(["job-1"]);
  expect(ids(table.all())).toEqual(["job-1", "job-2"]);
  const { endings } = table;
  table.put(jobOf(1, { reason: "other" }));
  expect(table.endings).toBe(endings);
  table.put(jobOf(1, { state: "succeeded" }));
  table.put(jobOf(2));
  expect(ids(table.open())).toEqual(["job-2"]);
  expect(table.endings).toBe(endings + 2);
});

test("who works for a job that is not over is employed, and only as long", () => {
  const table = new JobTable([jobOf(1, { members: members("a", "b") })]);
  expect(["a", "b", "c"].filter((peerId) => table.isEmployed(peerId))).toEqual(["a", "b"]);
  table.put(jobOf(2, { members: members("b") }));
  table.put(jobOf(1, { members: members("a") }));
  expect(table.isEmployed("b")).toBe(true);
  table.put(jobOf(2, { state: "cancelled" }));
  expect(["a", "b"].filter((peerId) => table.isEmployed(peerId))).toEqual(["a"]);
});

test("trials are found by their sweep, until an operator tries one again as a job of its own", () => {
  const trial = (number: number) => ({ trial: { sweep: "sweep-1", number } });
  const table = new JobTable([jobOf(1, trial(1)), jobOf(2), jobOf(3, trial(2))]);
  expect(ids(table.trialsOf("sweep-1"))).toEqual(["job-1", "job-3"]);
  table.put(jobOf(1));
  expect(ids(table.trialsOf("sweep-1"))).toEqual(["job-3"]);
  expect(table.trialsOf("sweep-2")).toEqual([]);
});
