import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const first = ["agent-1", "agent-2"];
const cluster = useTestCluster([...first, "agent-3"], { first });

const succeeded = ({ state }: JobView) => state === "succeeded";
const running = ({ progress, state }: JobView) => state === "running" && (progress?.step ?? 0) > 0;
const submit = async (workers: { min: number; max: number }, changes: object = {}) =>
  (await cluster.api().submitJob(smallJob({ workers, epochs: 10, ...changes }))).id;
const lastRanks = ({ generations }: JobView) => generations.at(-1)?.ranks.length;

test("a large job is not starved by small ones, and priority changes the order", async () => {
  const first = await submit({ min: 2, max: 2 });
  await cluster.untilJob(first, running);
  const large = await submit({ min: 2, max: 2 });
  const small = await submit({ min: 1, max: 1 });
  const urgent = await submit({ min: 2, max: 2 });
  expect((await cluster.api().job(large)).reason).toBe("waits for 2 agents to become free");
  expect((await cluster.api().job(small)).reason).toBe(`waits behind ${large} (priority 5)`);
  expect((await cluster.api().job(urgent)).queuePosition).toBe(3);
  await cluster.api().prioritiseJob(urgent, { priority: 9, reason: "a deadline" });
  expect((await cluster.api().job(urgent)).queuePosition).toBe(1);
  const ended = await Promise.all([first, urgent, large, small].map((id) => cluster.untilJob(id, succeeded)));
  // Each begins once the one before it has let its agents go.
  for (const [i, { startedAtMs }] of ended.entries())
    expect(startedAtMs).toBeGreaterThanOrEqual(ended[i - 1]?.endedAtMs ?? 0);
}, 120_000);

test("what an elastic job has beyond its minimum goes to one of higher priority, and comes back", async () => {
  const elastic = await submit({ min: 1, max: 2 }, { epochs: 60 });
  await cluster.untilJob(elastic, (job) => running(job) && lastRanks(job) === 2);
  const urgent = await submit({ min: 1, max: 1 }, { priority: 6 });
  const smaller = await cluster.untilJob(elastic, (job) => lastRanks(job) === 1);
  expect(smaller.generations.at(-1)!.reason).toContain(`goes to ${urgent}`);
  await cluster.untilJob(urgent, succeeded);
  const whole = await cluster.untilJob(elastic, succeeded);
  expect(whole.generations.map(({ ranks }) => ranks.length)).toEqual([2, 1, 2]);
  expect(whole.progress?.step).toBe(whole.progress?.totalSteps);
}, 120_000);

test("a quota holds a job back while the project runs another, and says so", async () => {
  await cluster.api().setQuota("vision", { jobs: 1 });
  const changes = { project: "vision" };
  const first = await submit({ min: 1, max: 1 }, changes);
  const second = await submit({ min: 1, max: 1 }, changes);
  const other = await submit({ min: 1, max: 1 });
  expect((await cluster.api().job(second)).reason).toBe("waits: project vision runs 1 of 1 jobs");
  const ends = await Promise.all([first, second, other].map((id) => cluster.untilJob(id, succeeded)));
  expect(ends[1]!.startedAtMs).toBeGreaterThanOrEqual(ends[0]!.endedAtMs!);
  await cluster.api().removeQuota("vision");
  expect(await cluster.api().quotas()).toEqual([]);
}, 120_000);

test("what a job needs: it says that nobody has it, and begins on the agent that comes with it", async () => {
  const id = await submit({ min: 1, max: 3 }, { needs: { memory: "1MB", labels: { room: "a" } } });
  expect((await cluster.api().job(id)).reason).toBe(
    "waits: no agent has label room=a; `ringfold agent --label room=a` gives it",
  );
  const { peerId } = (await cluster.processes.startAgent("agent-3", "room=a")).ready;
  const job = await cluster.untilJob(id, succeeded);
  expect(job.generations.map(({ ranks }) => ranks)).toEqual([[peerId]]);
}, 120_000);
