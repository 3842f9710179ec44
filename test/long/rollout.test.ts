import { afterEach, beforeAll, expect, test } from "vitest";
import type { RolloutRequest, RolloutView } from "../../protocol/messages/rollout.ts";
import { infer } from "../../scripts/commands/inference/open-inference.ts";
import { readMnistTestImages } from "../../scripts/commands/inference/prediction-input.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2", "agent-3", "agent-4"];
const never = new AbortController().signal;
const cluster = useTestCluster(names);
let images: Awaited<ReturnType<typeof readMnistTestImages>>;

const few = (trainExamples: number) => ({ source: "mnist", trainExamples, testExamples: 20 });

/** digits@1 and digits@2 are small, digits@3 computes ten times as long as it takes to ask them. */
beforeAll(async () => {
  images = await readMnistTestImages({ first: 0, last: 7 });
  const jobs = [
    smallJob({ model: { architecture: "mlp", hidden: [16] }, data: few(640) }),
    smallJob({ model: { architecture: "mlp", hidden: [24] }, data: few(640) }),
    smallJob({
      model: { architecture: "residual-cnn", filters: [64], blocks: 6 },
      ...{ data: few(32), batchSize: 16 },
    }),
  ];
  for (const job of jobs) {
    const { id } = await cluster.api().submitJob({ ...job, epochs: 1 });
    await cluster.untilJob(id, ({ state }) => state === "succeeded");
  }
  await cluster.api().deploy("digits", { version: 1, shards: 1, replicas: 2 });
  await cluster.until((view) => view.deployments.find(({ live, state }) => live && state === "ready"));
}, 180_000);

/** Predictions without end at some gateways, some at a time each; every answer is counted by its version. */
class Load {
  readonly answers = new Map<string, number>();
  readonly failures: unknown[] = [];
  #isOver = false;
  readonly #senders: Promise<void>[];

  constructor(agents: readonly string[], senders = 3) {
    this.#senders = agents.flatMap((name) => {
      const { gatewayUrl } = cluster.processes.agent(name).ready;
      return Array.from({ length: senders }, () => this.#send(gatewayUrl));
    });
  }

  count(version: number): number {
    return this.answers.get(String(version)) ?? 0;
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#senders);
  }

  async #send(gatewayUrl: string): Promise<void> {
    while (!this.#isOver) {
      await infer({ gatewayUrl, name: "digits" }, images, never).then(
        ({ model_version: version = "" }) => this.answers.set(version, (this.answers.get(version) ?? 0) + 1),
        (error: unknown) => this.failures.push(error),
      );
    }
  }
}

let load: Load;
afterEach(() => load.end());

const start = (version: number, changes: Partial<RolloutRequest> = {}) =>
  cluster.api().startRollout({
    ...{ name: "digits", version, steps: [10, 50, 100], holdSeconds: 1 },
    bounds: { maxErrorRate: 0.05, minRequests: 60, maxLatencyRatio: 20 },
    ...changes,
  });
const until = (condition: (rollout: RolloutView) => boolean) =>
  cluster.until((view) => view.rollouts.find((rollout) => rollout.name === "digits" && condition(rollout)));
const isOver = ({ endedAtMs }: RolloutView) => endedAtMs !== null;
const liveVersions = () =>
  cluster.until((view) => view.deployments.map(({ version, live }) => ({ version, live })));

/** What the log says of the present rollout, oldest first. */
async function reasons(): Promise<string[]> {
  const { startedAtMs } = await cluster.api().rollout("digits");
  const entries = await cluster.api().audit({ sinceMs: startedAtMs });
  return entries.filter(({ event }) => event.kind.startsWith("rollout-")).map(({ reason }) => reason);
}

test("a good version takes over step by step under load, and no request fails", async () => {
  load = new Load(names);
  await start(2);
  const promoted = await until(isOver);
  expect(promoted).toMatchObject({ state: "promoted", step: 3 });
  await expect.poll(() => cluster.api().deployments()).toMatchObject([{ version: 2, live: true }]);
  expect(load.count(1)).toBeGreaterThan(0);
  expect(load.count(2)).toBeGreaterThan(0);
  expect((await reasons()).slice(0, -1)).toEqual([
    "rolls out digits@2 beside digits@1, by 10, 50, 100%",
    expect.stringMatching(/^10% of the requests go to digits@2: 2 of 2 replicas are ready/),
    expect.stringMatching(/^50% of the requests go to digits@2: fails 0% of \d+/),
    expect.stringMatching(/^100% of the requests go to digits@2: fails 0% of \d+/),
  ]);
  await load.end();
  expect(load.failures).toEqual([]);
  console.log(JSON.stringify({ promoted: Object.fromEntries(load.answers), reasons: await reasons() }));
}, 120_000);

test("a version that is slower is rolled back, and says why; the live one answers on", async () => {
  load = new Load(names.slice(0, 2), 1);
  const beganMs = performance.now();
  await start(3, {
    steps: [25, 100],
    bounds: { maxErrorRate: 0.05, minRequests: 60 },
  });
  await until(({ step }) => step === 1);
  const steppedMs = performance.now();
  const ended = await until(isOver);
  const figures = { placedMs: steppedMs - beganMs, rolledBackAfterMs: performance.now() - steppedMs };
  expect(ended).toMatchObject({ state: "rolled-back", version: 3 });
  expect(ended.reason).toMatch(
    /^rolled back at \d+%: 95% of its answers take up to .* ms, .*; digits@2 answers everything$/,
  );
  expect(await liveVersions()).toEqual([{ version: 2, live: true }]);
  await load.end();
  expect(load.failures).toEqual([]);
  console.log(JSON.stringify({ ...figures, slow: load.count(3), reason: ended.reason }));
}, 120_000);

test("with the coordinator dead gateways keep the weights; a new one goes on at the step", async () => {
  load = new Load(names);
  await start(1, { holdSeconds: 4 });
  await until(({ step }) => step === 1);
  const gotBoth = (before: { old: number; fresh: number }) => () =>
    load.count(2) > before.old + 20 && load.count(1) > before.fresh + 5;
  const first = { old: load.count(2), fresh: load.count(1) };
  await expect.poll(gotBoth(first), { timeout: 20_000 }).toBe(true);
  await cluster.processes.coordinator.kill();
  const dead = { old: load.count(2), fresh: load.count(1) };
  await expect.poll(gotBoth(dead), { timeout: 20_000 }).toBe(true);
  await cluster.processes.startCoordinator();
  const back = await until(() => true);
  expect(back).toMatchObject({ state: "progressing", step: 1, weight: 10, version: 1 });
  expect(await until(isOver)).toMatchObject({ state: "promoted", step: 3 });
  await load.end();
  expect(load.failures).toEqual([]);
}, 120_000);

test("a candidate whose machine dies under load costs no request, and is not taken for good meanwhile", async () => {
  await start(2, { replicas: 1, steps: [50, 100] });
  const candidate = await cluster.until(({ deployments }) => deployments.find(({ weight }) => weight === 50));
  const [{ peerId } = { peerId: "" }] = candidate.shards[0]!.replicas;
  const victim = names.find((name) => cluster.processes.agent(name).ready.peerId === peerId)!;
  load = new Load(names.filter((name) => name !== victim));
  await expect.poll(() => load.count(2), { timeout: 20_000 }).toBeGreaterThan(5);
  await cluster.processes.agent(victim).kill();
  await until(isOver);
  expect(await reasons()).toContainEqual(expect.stringMatching(/^(holds|rolled back) at 50%: /));
  await load.end();
  expect(load.failures).toEqual([]);
  console.log(JSON.stringify({ death: await reasons() }));
}, 120_000);
