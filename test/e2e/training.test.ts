import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2", "agent-3"];
const totalSteps = 3_000;
const cluster = useTestCluster(names);

const succeeded = (job: JobView) => job.state === "succeeded";
const lastRanks = (job: JobView) => job.generations.at(-1)?.ranks ?? [];
const peerIdOf = (name: string) => cluster.processes.agent(name).ready.peerId;
/** Job ids grow, so a test finds the job of the one before it. */
let undisturbed: JobView;

test("three agents train; every rank has the same parameters at every checkpoint", async () => {
  const { id } = await cluster.api().submitJob(smallJob());
  undisturbed = await cluster.untilJob(id, succeeded);
  expect(undisturbed.generations.map(({ ranks }) => ranks.length)).toEqual([3]);
  expect(undisturbed.checkpoints.map(({ step, ranks }) => ({ step, ranks }))).toEqual(
    Array.from({ length: totalSteps / 100 }, (_, i) => ({ step: 100 * (i + 1), ranks: 3 })),
  );
  expect(undisturbed.evaluation).toMatchObject({ examples: 2_000 });
  expect(undisturbed.evaluation!.accuracy!).toBeGreaterThan(0.85);
  expect(undisturbed.version).toBe("digits@1");
}, 90_000);

test("a SIGKILL, a join and a clean leave in one run: no finished step is lost and the result is as good", async () => {
  const { id } = await cluster.api().submitJob(smallJob());
  await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 200);
  const killed = peerIdOf("agent-2");
  await cluster.processes.agent("agent-2").kill();
  const afterKill = await cluster.untilJob(id, (job) => lastRanks(job).length === 2);
  expect(lastRanks(afterKill)).not.toContain(killed);

  await cluster.processes.startAgent("agent-2");
  expect(peerIdOf("agent-2")).toBe(killed); // the identity outlives the process
  const afterJoin = await cluster.untilJob(id, (job) => lastRanks(job).length === 3);
  expect(lastRanks(afterJoin).at(-1)).toBe(killed); // survivors keep their ranks

  await cluster.untilJob(id, (job) => job.checkpoints.at(-1)!.step > afterJoin.generations.at(-1)!.startStep);
  await cluster.processes.agent("agent-3").stop();
  const afterLeave = await cluster.untilJob(id, (job) => job.generations.length === 4);
  expect(afterLeave.generations.at(-1)).toMatchObject({ reason: expect.stringContaining("agent-3 leaves") });

  const job = await cluster.untilJob(id, succeeded);
  expect(job.progress?.step).toBe(totalSteps);
  expectNoStepLost(job);
  // A joiner healed to the same bits: the checkpoints written while it was in carry three equal hashes.
  const joined = job.generations[2]!;
  const left = job.generations[3]!;
  const whileJoined = job.checkpoints.filter(({ step }) => step > joined.startStep && step <= left.startStep);
  expect(whileJoined.length).toBeGreaterThan(0);
  expect(whileJoined.every(({ ranks }) => ranks === 3)).toBe(true);
  expect(Math.abs(job.evaluation!.accuracy! - undisturbed.evaluation!.accuracy!)).toBeLessThanOrEqual(0.005);
  await cluster.processes.startAgent("agent-3");
}, 120_000);

test("a coordinator that is killed in the middle of a job costs nothing", async () => {
  const { id } = await cluster.api().submitJob(smallJob());
  await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 200);
  await cluster.processes.coordinator.kill();
  await cluster.processes.startCoordinator();
  const job = await cluster.untilJob(id, succeeded);
  expect(job.generations).toHaveLength(1); // training never stopped
  expect(job.evaluation!.accuracy!).toBe(undisturbed.evaluation!.accuracy!);
  const { versions, coordinator } = await cluster.until((view) => view);
  expect(versions.map(({ name, version }) => `${name}@${version}`)).toEqual([
    "digits@1",
    "digits@2",
    "digits@3",
  ]);
  expect(coordinator.term).toBe(2);
}, 90_000);

test("a trainer that dies without its agent is replaced", async () => {
  const { id } = await cluster.api().submitJob(smallJob());
  await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 200);
  process.kill(await trainerPidOf("agent-1"), "SIGKILL");
  const job = await cluster.untilJob(id, (view) => succeeded(view) || view.generations.length >= 3);
  expect(job.generations.map(({ ranks }) => ranks.length)).toEqual([3, 2, 3]);
  const ended = await cluster.untilJob(id, succeeded);
  expectNoStepLost(ended);
}, 90_000);

test("a cancelled job leaves no trainer behind", async () => {
  const { id } = await cluster.api().submitJob(smallJob());
  await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 50);
  const pid = await trainerPidOf("agent-1");
  expect(await cluster.api().cancelJob(id)).toMatchObject({ state: "cancelled" });
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
}, 60_000);

function expectNoStepLost(job: JobView): void {
  for (const [i, { startStep, recoveryMs }] of job.generations.entries()) {
    if (i === 0) continue;
    expect(startStep).toBeGreaterThan(job.generations[i - 1]!.startStep);
    expect(recoveryMs).not.toBeNull();
    // What was checkpointed before the break is behind the new start, never ahead of it.
    expect(job.checkpoints.some(({ step }) => step <= startStep)).toBe(true);
  }
}

async function trainerPidOf(name: string): Promise<number> {
  const { readdir, readFile } = await import("node:fs/promises");
  const agentPid = cluster.processes.agent(name).pid;
  for (const entry of await readdir("/proc")) {
    const stat = await readFile(`/proc/${entry}/stat`, "utf8").catch(() => "");
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    if (parent !== agentPid) continue;
    const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    if (command.includes("trainer-process")) return Number(entry);
  }
  throw new Error(`${name} has no trainer`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
