import type { AgentNeeds } from "../../coordinator/decide/needs.ts";
import { decideQueue } from "../../coordinator/decide/queue.ts";
import type { QueueAgent, QueueJob } from "../../coordinator/decide/queue-facts.ts";
import { distributionOf } from "../chaos/distribution.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * What one decision about the queue costs: 1,000 agents and 1,000 jobs.
 *
 *     node scripts/bench/queue.ts          a table
 *     node scripts/bench/queue.ts --json   rows {situation, decisionMs: {p50, p99}, granted, waiting}
 */

const count = 1_000;
const rounds = 60;

const agentId = (index: number): string => `12D3KooW${String(index).padStart(44, "A")}`;
const agents = (busy: number): QueueAgent[] =>
  Array.from({ length: count }, (_, i) => ({
    ...{ peerId: agentId(i), idle: i >= busy, scripts: i % 2 === 0, flapping: i % 50 === 0 },
    ...{ engines: ["webgpu"], gpuEngines: ["webgpu"], usesGpu: true, gpuMemoryBytes: (1 + (i % 10)) * 8e9 },
    ...{ memoryBytes: 16e9, cores: 8, labels: { room: `${i % 7}` } },
  }));

/** @param members the first of them works on so many agents, the next one on the next */
const job = (number: number, members: readonly string[], gang: number): QueueJob => ({
  ...{ id: `job-${number}`, number, priority: number % 3, project: `team-${number % 20}`, isOpen: true },
  ...{ isUnderWay: members.length > 0, members, surplus: members.slice(gang), yielding: [] },
  ...{ gang, most: 2 * gang, needs: needsOf(number), barred: [], leftOut: "", holders: [], fromStep: null },
});

/** A quarter asks for scripts, a quarter for GPU memory and a room: 35 kinds of need. */
const needsOf = (number: number): AgentNeeds =>
  number % 4 === 1
    ? { scripts: false, gpuMemory: (1 + (number % 10)) * 8e9, labels: { room: `${number % 7}` } }
    : { scripts: number % 4 === 0 };

const alone = (number: number) => job(number, [agentId(number)], 1);
const waiting = (number: number) => job(number, [], 1 + (number % 8));
const quotas = new Map(
  Array.from({ length: 20 }, (_, i) => [`team-${i}`, { project: `team-${i}`, agents: 60, jobs: 40 }]),
);
const jobs = (make: (number: number) => QueueJob) => Array.from({ length: count }, (_, i) => make(i));

const situations = [
  { situation: "every agent has its job", jobs: jobs(alone), agents: agents(count) },
  {
    situation: "half work, half wait",
    jobs: jobs((i) => (i < count / 2 ? job(i, [agentId(2 * i), agentId(2 * i + 1)], 1) : waiting(i))),
    agents: agents(count),
  },
  { situation: "all wait, all idle", jobs: jobs((i) => job(i, [], 1)), agents: agents(0) },
  { situation: "gangs wait, all idle", jobs: jobs(waiting), agents: agents(0) },
] as const;

function measure({ situation, ...facts }: (typeof situations)[number]) {
  const world = { ...facts, known: facts.agents, quotas, gathering: false };
  const times: number[] = [];
  let decision = decideQueue(world);
  for (let round = 0; round < rounds; round++) {
    const beganMs = performance.now();
    decision = decideQueue(world);
    times.push(performance.now() - beganMs);
  }
  const { p50, p99 } = distributionOf(times.slice(rounds / 3))!;
  return { situation, decisionMs: { p50, p99 }, granted: decision.grants.size, waiting: decision.waits.size };
}

await runBench(async () => {
  const flags = parseBenchOptions("bench:queue", (command) =>
    command.description("what one decision about the queue costs, with 1,000 agents and 1,000 jobs"),
  );
  if (!flags) return;
  const rows = situations.map(measure);
  if (flags.json) return console.log(JSON.stringify(rows));
  for (const { situation, decisionMs, granted, waiting } of rows)
    console.log(
      `${situation.padEnd(26)} ${decisionMs.p50.toFixed(2)} ms, p99 ${decisionMs.p99.toFixed(2)} ms; ${granted} get agents, ${waiting} wait`,
    );
});
