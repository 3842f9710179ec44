import { setTimeout as delay } from "node:timers/promises";
import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { createApiClient } from "../commands/api-client.ts";
import { waitForView } from "../commands/follow/cluster-follower.ts";
import { modelShapes } from "../commands/inference/open-inference.ts";
import type { ChaosModules } from "./chaos-run.ts";
import { DecisionLoad } from "./decision-load.ts";
import { type Distribution, distributionOf } from "./distribution.ts";
import { collectSteps } from "./disturbed-run.ts";
import { JobObserver } from "./job-observer.ts";
import { lostSteps } from "./lost-steps.ts";
import { processesOf } from "./processes.ts";
import { RequestLoad } from "./request-load.ts";
import { openEnded } from "./undisturbed.ts";

export interface CoordinatorChaosOptions {
  /** Trained once to its end for what is served, then again without an end while the coordinator is killed. */
  readonly spec: JobSpec;
  readonly agentCount: number;
  readonly durationMs: number;
  readonly everyMs: number;
}

/** What a run found in which the coordinator was killed; docs/chaos.md defines every figure. */
export interface CoordinatorChaosReport {
  readonly coordinatorKills: number;
  /** Committed while the coordinator was killed. */
  readonly steps: number;
  readonly lostSteps: number;
  readonly generations: number;
  readonly requests: number;
  readonly failedRequests: number;
  /** By code. */
  readonly failures: Readonly<Record<string, number>>;
  /** Acknowledged. */
  readonly decisions: number;
  readonly lostDecisions: number;
  readonly doubledDecisions: number;
  /** From SIGKILL to the next decision that was acknowledged; includes the start of the process. */
  readonly leaderlessMs: Distribution | null;
  readonly leaked: { readonly processes: number };
  readonly seconds: number;
  readonly agents: number;
  readonly brokenInvariants: readonly string[];
}

const preparingTimeoutMs = 300_000;
const firstStepTimeoutMs = 60_000;

/**
 * Trains and serves while the coordinator is killed with SIGKILL and started again, and somebody keeps making it decide.
 *
 * @throws RingfoldError what ended the run early; an invariant that did not hold is in the report, not thrown
 */
export async function runCoordinatorChaos(
  options: CoordinatorChaosOptions,
  modules: ChaosModules,
): Promise<CoordinatorChaosReport> {
  const { cluster, folder, signal, note, onView } = modules;
  const { agentCount } = options;
  note(`a coordinator and ${agentCount} agents, each a process of its own`);
  const { httpUrl, operatorToken } = (await cluster.startCoordinator()).ready;
  const names = Array.from({ length: agentCount }, (_, i) => `agent-${i + 1}`);
  await Promise.all(names.map((name) => cluster.startAgent(name)));
  const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal });
  const name = await serve(options.spec, { ...modules, api });
  const job = await api.submitJob(openEnded({ ...options.spec, name: `${name}-on` }));
  const observer = new JobObserver({ api, job, signal, onView });
  const gatewayUrls = cluster.liveAgents().map(({ ready }) => ready.gatewayUrl);
  try {
    await observer.until(({ progress }) => (progress?.step ?? 0) > 0, {
      ...{ timeoutMs: firstStepTimeoutMs, what: "the first step" },
    });
    const shape = [1, ...(await modelShapes({ gatewayUrl: gatewayUrls[0]!, name }, signal)).input];
    const input = { shape, data: new Float32Array(shape.reduce((product, length) => product * length)) };
    const requests = new RequestLoad({ gatewayUrls, name, input, signal });
    const decisions = new DecisionLoad({ api, name, signal });
    await decisions.next();
    const fromMs = performance.now();
    const leaderlessMs = await strike(options, { ...modules, decisions });
    await Promise.all([requests.close(), decisions.close()]);
    const seconds = (performance.now() - fromMs) / 1_000;
    await api.cancelJob(job.id);
    const ended = await observer.until(({ state }) => state === "cancelled", {
      ...{ timeoutMs: firstStepTimeoutMs, what: "the end of the job" },
    });
    const { lost, doubled } = await decisions.verdict();
    const evidence = await collectSteps({ observer, job: ended }, cluster, names);
    const figures = {
      coordinatorKills: leaderlessMs.length,
      steps: observer.sightings.at(-1)?.step ?? 0,
      lostSteps: lostSteps(ended.generations, evidence.steps, []) + takenBack(observer),
      generations: ended.generationCount,
      ...{ requests: requests.sent, failedRequests: requests.failedCount },
      failures: Object.fromEntries(requests.failed),
      decisions: decisions.acknowledged.length,
      ...{ lostDecisions: lost, doubledDecisions: doubled },
      leaderlessMs: distributionOf(leaderlessMs),
      ...{ seconds, agents: agentCount },
    };
    await observer.close();
    await cluster.stop();
    const report = { ...figures, leaked: { processes: processesOf(folder).length } };
    return { ...report, brokenInvariants: brokenInvariants(report) };
  } finally {
    await observer.close();
  }
}

type WithApi = ChaosModules & { readonly api: ReturnType<typeof createApiClient> };

/** Trains a version and deploys it, so that any one agent may be asked. @returns its name */
async function serve(spec: JobSpec, { api, signal, note, cluster }: WithApi): Promise<string> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(preparingTimeoutMs)]);
  const wait = { signal: deadline, note };
  note(`training what is served: ${spec.epochs} epochs`);
  const { id } = await api.submitJob(spec);
  await waitForView(api, wait, ({ jobs }) => {
    const job = jobs.find((found) => found.id === id);
    if (job?.state === "failed") throw new RingfoldError("JOB_FAILED", job.reason);
    return job?.state === "succeeded" ? job : undefined;
  });
  const replicas = Math.min(2, cluster.liveAgents().length);
  await api.deploy(spec.name, { version: 1, shards: 1, replicas });
  await waitForView(api, wait, ({ deployments }) =>
    deployments.find((found) => found.name === spec.name && found.live && found.state === "ready"),
  );
  return spec.name;
}

/** @returns of each kill, the time until something was decided again */
async function strike(
  { durationMs, everyMs }: CoordinatorChaosOptions,
  { cluster, signal, note, decisions }: ChaosModules & { readonly decisions: DecisionLoad },
): Promise<number[]> {
  const leaderlessMs: number[] = [];
  const begunAtMs = performance.now();
  for (let due = everyMs; due <= durationMs; due += everyMs) {
    await delay(Math.max(0, begunAtMs + due - performance.now()), undefined, { signal });
    const struckAtMs = performance.now();
    await cluster.coordinator.kill();
    await cluster.startCoordinator();
    await decisions.next();
    leaderlessMs.push(performance.now() - struckAtMs);
    note(`kill ${leaderlessMs.length}: decided again after ${Math.round(leaderlessMs.at(-1)!)} ms`);
  }
  return leaderlessMs;
}

/** Steps that were told as committed and then were not, within what rank 0 says. */
export function takenBack({ sightings }: JobObserver): number {
  let most = 0;
  let lost = 0;
  for (const { step } of sightings) {
    lost += Math.max(0, most - step);
    most = Math.max(most, step);
  }
  return lost;
}

function brokenInvariants(report: Omit<CoordinatorChaosReport, "brokenInvariants">): string[] {
  const { coordinatorKills, steps, decisions, requests, leaked } = report;
  const demands: readonly (readonly [boolean, string])[] = [
    [coordinatorKills > 0, "the coordinator was not killed: the run was too short"],
    [steps > 0 && decisions > 0 && requests > 0, "nothing was trained, decided or asked"],
    [report.lostSteps === 0, `${report.lostSteps} committed steps were done again`],
    [report.failedRequests === 0, `${report.failedRequests} of ${requests} predictions failed`],
    [report.lostDecisions === 0, `${report.lostDecisions} acknowledged decisions are not there`],
    [report.doubledDecisions === 0, `${report.doubledDecisions} decisions were made twice`],
    [leaked.processes === 0, `${leaked.processes} processes were left behind`],
  ];
  return demands.filter(([holds]) => !holds).map(([, message]) => message);
}
