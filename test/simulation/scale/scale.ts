import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openCoordinator } from "../../../coordinator/coordinator.ts";
import { loadCredentials } from "../../../coordinator/credentials.ts";
import type { Coordinator } from "../../../coordinator/port.ts";
import { openLmdbStore } from "../../../coordinator/store/lmdb-store.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { memoryPeerId } from "../memory-network.ts";
import { ScaleAgent } from "./agent.ts";
import { Star } from "./star.ts";
import { type Messages, messagesText, sumOf } from "./traffic.ts";

/**
 * What a large cluster costs its coordinator: `npm run scale -- --agents 100,300,1000 [--artefacts 10000] [--json]`. The coordinator is the real
 * one, with its real store (each decision is on disk before it is answered) and clock; agents are a few lines each, and the
 * network between them passes bytes on and counts them by kind. Processor time is of both, so the coordinator's own is less.
 */
const { values } = parseArgs({
  options: {
    agents: { type: "string", default: "100,300,1000" },
    artefacts: { type: "string", default: "10000" },
    json: { type: "boolean", default: false },
  },
});

interface Row {
  readonly agents: number;
  readonly phase: string;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly decisions: number;
  /** That were answered or, of facts, heard; by protocol or topic. */
  readonly messages: Messages;
  readonly heapMB: number;
}

/** Of the phase in which nothing happens. */
const steadyMs = 5_000;
const restartedAtOnce = 20;
/** Agents that have very many artefacts. */
const richAgents = 10;
const waitMsMax = 120_000;

const rows: Row[] = [];
for (const count of values.agents.split(",").map(Number)) rows.push(...(await measure(count)));
if (values.json) console.log(JSON.stringify(rows));

async function measure(count: number): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-scale-"));
  const store = await openLmdbStore(join(folder, "store"));
  const star = new Star(memoryPeerId(99_999));
  const credentials = await loadCredentials(store, { clusterName: "lab", createSwarmKey: () => "swarm key" });
  const coordinator = await openCoordinator({
    ...{ network: star.hub, store, credentials, clock: systemClock, log: silentLog, release: "0.1.0" },
  });
  const { token } = await coordinator.createToken({
    role: "worker",
    expiresInSeconds: 3_600,
    addresses: false,
  });
  const agents = Array.from({ length: count }, (_, i) => new ScaleAgent(star, i + 1, token));
  const beating = setInterval(() => void Promise.all(agents.map((agent) => agent.beat())), 1_000);
  const measured: Row[] = [];
  const phase = async (name: string, work: () => Promise<unknown>) => {
    const before = { messages: star.traffic.all(), decisions: lastDecision(coordinator) };
    const cpu = process.cpuUsage();
    const startedAtMs = performance.now();
    await work();
    const seconds = (performance.now() - startedAtMs) / 1_000;
    const { user, system } = process.cpuUsage(cpu);
    measured.push({
      ...{ agents: count, phase: name, seconds, cpuSeconds: (user + system) / 1e6 },
      decisions: lastDecision(coordinator) - before.decisions,
      messages: star.traffic.since(before.messages),
      heapMB: process.memoryUsage().heapUsed / 1e6,
    });
    if (!values.json) console.log(textOf(measured.at(-1)!));
  };
  const jobCount = Math.ceil(count / 10);
  await phase("join storm", () => Promise.all(agents.map((agent) => agent.join())));
  await phase("steady", () => delay(steadyMs));
  const rich = agents.slice(0, richAgents);
  if (Number(values.artefacts) > 0) {
    await phase(`${values.artefacts} artefacts on ${rich.length}`, async () => {
      for (const agent of rich) agent.hold(Number(values.artefacts));
      await until(() => rich.every(({ isKnown }) => isKnown));
    });
    await phase("steady with artefacts", () => delay(steadyMs));
  }
  await phase(`${jobCount} jobs of 2`, async () => {
    for (let i = 0; i < jobCount; i++)
      await coordinator.submitJob(exampleSpec({ workers: { min: 2, max: 2, spares: 0 } }));
    await until(() => coordinator.jobs().every(({ state }) => state === "running"));
  });
  await phase("steady with jobs", () => delay(steadyMs));
  await phase("rolling restart", async () => {
    for (let from = 0; from < count; from += restartedAtOnce)
      await Promise.all(agents.slice(from, from + restartedAtOnce).map((agent) => agent.beginAnew()));
    await until(() => liveCount(coordinator) === count);
  });
  await phase("half lost", async () => {
    for (const agent of agents.splice(0, Math.floor(count / 2))) agent.crash();
    await until(() => liveCount(coordinator) === agents.length);
  });
  clearInterval(beating);
  await coordinator.close();
  await store.close();
  await rm(folder, { recursive: true });
  return measured;
}

function liveCount(coordinator: Coordinator): number {
  return coordinator.peers().filter(({ state }) => state === "alive").length;
}

function lastDecision(coordinator: Coordinator): number {
  return coordinator.audit({ after: 0, limit: 1 }).last;
}

async function until(condition: () => boolean): Promise<void> {
  const endsAtMs = performance.now() + waitMsMax;
  while (!condition()) {
    if (performance.now() > endsAtMs) throw new Error(`not within ${waitMsMax / 1_000} s`);
    await delay(50);
  }
}

function textOf({ agents, phase, seconds, cpuSeconds, decisions, messages, heapMB }: Row): string {
  const rate = decisions === 0 ? "" : `  ${(decisions / seconds).toFixed(0)} decisions/s`;
  const { count, bytes } = sumOf(messages);
  const carried = `${count} messages, ${(bytes / 1e6).toFixed(1)} MB`;
  const cost = `${seconds.toFixed(2)} s, cpu ${cpuSeconds.toFixed(2)} s, heap ${heapMB.toFixed(0)} MB`;
  const head = `${String(agents).padStart(5)} agents  ${phase.padEnd(24)} ${cost}`;
  return `${head}, ${decisions} decisions, ${carried}${rate}\n${" ".repeat(14)}${messagesText(messages)}`;
}
