import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { takenBack } from "../../scripts/chaos/coordinator-run.ts";
import { DecisionLoad } from "../../scripts/chaos/decision-load.ts";
import { collectSteps } from "../../scripts/chaos/disturbed-run.ts";
import { JobObserver } from "../../scripts/chaos/job-observer.ts";
import { lostSteps } from "../../scripts/chaos/lost-steps.ts";
import { RequestLoad } from "../../scripts/chaos/request-load.ts";
import { openEnded } from "../../scripts/chaos/undisturbed.ts";
import { type ApiClient, createApiClient } from "../../scripts/commands/api-client.ts";
import { waitForView } from "../../scripts/commands/follow/cluster-follower.ts";
import { modelShapes } from "../../scripts/commands/inference/open-inference.ts";
import { type AgentProcess, startAgentProcess } from "../../scripts/local-cluster/local-cluster.ts";
import {
  cutOff,
  type VirtualMachine,
  whyNoVirtualNetworks,
} from "../../scripts/local-cluster/virtual-network.ts";
import { Candidate } from "../fixtures/candidate.ts";
import { EtcdCluster, etcdIsInstalled } from "../fixtures/etcd-cluster.ts";
import { smallJob } from "../fixtures/local-cluster.ts";
import { useNetworkBench } from "../fixtures/network-bench.ts";
import { Window } from "../fixtures/window.ts";

/**
 * Three nodes of etcd, three coordinators, and two agents that train and serve while somebody makes the coordinators decide
 * without end: a process on each machine, and every strike lands on what works.
 */

const obstacle = whyNoVirtualNetworks() ?? (etcdIsInstalled ? undefined : "no etcd");
const bench = useNetworkBench("ringfold-etcd-load-");
const leaderMaxMs = 5_000;
/** Nodes of etcd that have lost their leader choose another one in 1 to 2 s; on a busy machine a coordinator may have stepped back by then. */
const silenceMaxMs = 2_000 + leaderMaxMs;
const agentNames = ["agent-1", "agent-2"];

/** The coordinators, and who of them leads. */
class Coordinators {
  readonly #machines: readonly VirtualMachine[];
  readonly #candidates: Candidate[] = [];
  readonly #store: string;
  readonly urls: readonly string[];
  leading = 0;
  /** That have begun. */
  turns = 0;
  #next = Promise.withResolvers<void>();

  private constructor(machines: readonly VirtualMachine[], store: string, urls: readonly string[]) {
    this.#machines = machines;
    this.#store = store;
    this.urls = urls;
  }

  static async on(machines: readonly VirtualMachine[], etcd: EtcdCluster, window: Window) {
    const hosts = etcd.endpoints.map((endpoint) => new URL(endpoint).host).join(",");
    const urls = await Promise.all(machines.map(({ address }) => window.look(address, 7_070)));
    return new Coordinators(machines, `etcd://${hosts}/lab`, urls);
  }

  async start(index: number): Promise<Candidate> {
    const { address, wrapper } = this.#machines[index]!;
    const data = join(bench.folder, `coordinator-${index}`);
    await mkdir(data, { recursive: true });
    const candidate = new Candidate(
      [
        ...["--store", this.#store, "--data", data],
        ...["--listen", `${address}:7071`, "--http", `${address}:7070`],
      ],
      {
        wrapper,
        logPath: logPath(`coordinator-${index}`),
        onSaid: ({ ready }) => ready && this.#leads(index),
      },
    );
    bench.processes.push(candidate);
    this.#candidates[index] = candidate;
    return candidate;
  }

  get leader(): { readonly candidate: Candidate; readonly machine: VirtualMachine; readonly index: number } {
    const index = this.leading;
    return { index, candidate: this.#candidates[index]!, machine: this.#machines[index]! };
  }

  /** Resolves when another turn begins. */
  next(): Promise<void> {
    return this.#next.promise;
  }

  #leads(index: number): void {
    this.leading = index;
    this.turns++;
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }
}

interface Scene {
  readonly etcd: EtcdCluster;
  readonly etcdMachines: readonly VirtualMachine[];
  readonly coordinators: Coordinators;
  readonly agents: ReadonlyMap<string, AgentProcess>;
  readonly gatewayUrls: readonly string[];
  readonly api: ApiClient;
}

async function open(): Promise<Scene> {
  const [lan] = await bench.openNetwork([9], { routed: false });
  const [operator, ...machines] = lan!;
  const [etcdMachines, coordinatorMachines, agentMachines] = [
    machines.slice(0, 3),
    machines.slice(3, 6),
    machines.slice(6),
  ];
  const window = await Window.open(operator!, bench.folder);
  bench.processes.push(window);
  const etcd = await EtcdCluster.startOn(etcdMachines, window);
  bench.processes.push({ kill: () => etcd.close() });
  const coordinators = await Coordinators.on(coordinatorMachines, etcd, window);
  const { operatorToken } = await (await coordinators.start(0)).says("ready");
  await Promise.all([1, 2].map(async (index) => (await coordinators.start(index)).says("standby")));
  const baseUrl = coordinators.urls.join();
  const api = createApiClient({ baseUrl, operatorToken, signal: bench.signal });
  const { token } = await api.createToken({ role: "worker", expiresInSeconds: 600, addresses: true });
  const agents = await Promise.all(
    agentNames.map(async (name, index) => {
      const data = join(bench.folder, name);
      await mkdir(data);
      const agent = await startAgentProcess({
        parameters: [
          ...["--data", data, "--name", name, "--engine", "wasm"],
          ...["--listen", `${agentMachines[index]!.address}:0`, "--gateway", "0.0.0.0:7080"],
        ],
        logPath: logPath(name),
        env: { ...process.env, RINGFOLD_HOME: bench.folder, RINGFOLD_JOIN: token },
        wrapper: agentMachines[index]!.wrapper,
        signal: bench.signal,
      });
      bench.processes.push(agent);
      return [name, agent] as const;
    }),
  );
  const gatewayUrls = await Promise.all(agentMachines.map(({ address }) => window.look(address, 7_080)));
  return { etcd, etcdMachines, coordinators, agents: new Map(agents), gatewayUrls, api };
}

/** Trains what is served, serves it from both agents, and begins the job that is to lose nothing. */
async function work({ api, gatewayUrls }: Scene) {
  const wait = { signal: AbortSignal.any([bench.signal, AbortSignal.timeout(60_000)]), note: () => {} };
  const served = smallJob({ name: "served", epochs: 1 });
  await api.submitJob(served);
  await waitForView(api, wait, ({ versions }) => versions.find(({ name }) => name === served.name));
  await api.deploy(served.name, { version: 1, shards: 1, replicas: 2 });
  await waitForView(api, wait, ({ deployments }) =>
    deployments.find(({ live, state }) => live && state === "ready"),
  );
  const job = await api.submitJob(openEnded(smallJob({ workers: { min: 2, max: 2 } })));
  const observer = new JobObserver({ api, job, signal: bench.signal });
  await observer.until(({ progress }) => (progress?.step ?? 0) > 0, {
    ...{ timeoutMs: 60_000, what: "the first step" },
  });
  const target = { gatewayUrl: gatewayUrls[0]!, name: served.name };
  const shape = [1, ...(await modelShapes(target, bench.signal)).input];
  const input = { shape, data: new Float32Array(shape.reduce((product, length) => product * length)) };
  const requests = new RequestLoad({ gatewayUrls, name: served.name, input, signal: bench.signal });
  const decisions = new DecisionLoad({ api, name: served.name, signal: bench.signal });
  await decisions.next();
  return { observer, requests, decisions };
}

test.skipIf(obstacle)(
  "leader killed, etcd node killed, leader cut from etcd, etcd's own leader cut from its nodes: nothing lost, doubled or failed",
  async () => {
    const scene = await open();
    const { etcd, etcdMachines, coordinators, agents, api } = scene;
    const { observer, requests, decisions } = await work(scene);
    const agentsAreBack = () =>
      vi.waitFor(
        async () => {
          const alive = (await api.peers()).filter(({ state }) => state === "alive");
          expect(alive).toHaveLength(agentNames.length);
        },
        { timeout: 30_000, interval: 50 },
      );
    const goesOn = async () => {
      const { step } = observer.sightings.at(-1)!;
      await observer.until(({ progress }) => (progress?.step ?? 0) > step, {
        ...{ timeoutMs: 30_000, what: "the next step" },
      });
    };
    const figures: Record<string, Record<string, number>> = {};
    const since = (ms: number) => Math.round(performance.now() - ms);
    const takeover = async (what: string, strike: () => unknown) => {
      const fromMs = performance.now();
      const next = coordinators.next();
      await strike();
      await next;
      const leaderMs = since(fromMs);
      await decisions.next();
      const decidedMs = since(fromMs);
      await agentsAreBack();
      figures[what] = { leaderMs, decidedMs, agentsMs: since(fromMs) };
      await goesOn();
    };
    /** Of a strike that no coordinator need hear of: how long nothing was acknowledged. */
    const endure = async (what: string, strike: () => unknown) => {
      const first = decisions.acknowledged.length - 1;
      const { turns } = coordinators;
      await strike();
      // Longer than a node of etcd takes to miss its leader, and than a lease.
      await delay(leaderMaxMs, undefined, { signal: bench.signal });
      await decisions.next();
      const times = decisions.acknowledged.slice(first).map(({ atMs }) => atMs);
      const silenceMs = Math.round(Math.max(...times.slice(1).map((ms, i) => ms - times[i]!)));
      figures[what] = { silenceMs, turns: coordinators.turns - turns };
      await goesOn();
    };

    const killed = coordinators.leader;
    await takeover("leader killed", () => killed.candidate.kill());
    await (await coordinators.start(killed.index)).says("standby");

    const dead = await etcd.leader();
    await endure("etcd's leader killed", () => etcd.kill(dead));
    etcd.startNode(dead);
    await vi.waitFor(
      async () => expect(await etcd.status(dead)).toMatchObject({ leader: expect.any(String) }),
      {
        ...{ timeout: 20_000, interval: 100 },
      },
    );

    const deposed = coordinators.leader;
    let heal = async () => {};
    const successor = coordinators.next();
    const steppedBack = successor.then(() => isReady(coordinators.urls[deposed.index]!));
    await takeover("leader cut from etcd", async () => {
      heal = await cutOff(deposed.machine, etcdMachines);
    });
    // It cannot know of its successor, and had stepped back before that one led.
    expect(await steppedBack).toBe(false);
    await heal();
    await deposed.candidate.says("standby");

    const alone = await etcd.leader();
    await endure("etcd's leader cut from its nodes", async () => {
      heal = await cutOff(
        etcdMachines[alone]!,
        etcdMachines.filter((_, index) => index !== alone),
      );
    });
    await heal();
    await agentsAreBack();

    await Promise.all([requests.close(), decisions.close()]);
    await api.cancelJob(observer.job.id);
    const job = await observer.until(({ state }) => state === "cancelled", {
      ...{ timeoutMs: 30_000, what: "the end of the job" },
    });
    const { steps } = await collectSteps(
      { observer, job },
      {
        agent: (name) => agents.get(name)!,
        logPath,
      },
      agentNames,
    );
    const entries = await api.audit({ sinceMs: 0 });
    console.log(
      JSON.stringify({
        ...figures,
        steps: observer.sightings.at(-1)!.step,
        generations: job.generationCount,
        predictions: requests.sent,
        decisions: decisions.acknowledged.length,
      }),
    );
    expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, i) => i + 1));
    const terms = entries.flatMap(({ event, term }) => (event.kind === "coordinator-started" ? [term] : []));
    expect(terms).toEqual(terms.map((_, i) => i + 1));
    expect(await decisions.verdict()).toEqual({ lost: 0, doubled: 0 });
    expect(lostSteps(job.generations, steps, []) + takenBack(observer)).toBe(0);
    expect(Object.fromEntries(requests.failed)).toEqual({});
    for (const { leaderMs = 0, silenceMs = 0 } of Object.values(figures)) {
      expect(leaderMs).toBeLessThan(leaderMaxMs);
      expect(silenceMs).toBeLessThan(silenceMaxMs);
    }
    await observer.close();
  },
  180_000,
);

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) }).then(
    ({ ok }) => ok,
    () => false,
  );

const logPath = (name: string): string => join(bench.folder, `${name}.log`);
