import { beforeAll, expect, test } from "vitest";
import { infer } from "../../scripts/commands/inference/open-inference.ts";
import { readMnistTestImages } from "../../scripts/commands/inference/prediction-input.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2", "agent-3", "agent-4"];
const never = new AbortController().signal;
const cluster = useTestCluster(names);
let images: Awaited<ReturnType<typeof readMnistTestImages>>;
beforeAll(async () => {
  images = await readMnistTestImages({ first: 0, last: 3 });
  const model = { architecture: "cnn", filters: [8], hidden: [16] };
  const { id } = await cluster.api().submitJob(smallJob({ model, epochs: 1 }));
  await cluster.untilJob(id, ({ state }) => state === "succeeded");
}, 90_000);

const gatewayOf = (name: string) => cluster.processes.agent(name).ready.gatewayUrl;
const peerIdOf = (name: string) => cluster.processes.agent(name).ready.peerId;
const predict = async (gatewayUrl: string) =>
  (await infer({ gatewayUrl, name: "digits" }, images, never)).outputs[0]!.data;
const untilDeployed = (accept: (state: string) => boolean = (state) => state === "ready") =>
  cluster.until((view) => view.deployments.find(({ live, state }) => live && accept(state)));

test("a version is served as 2 shards x 2 replicas, the same by every gateway", async () => {
  await cluster.api().deploy("digits", { version: 1, shards: 2, replicas: 2 });
  const { shards } = await untilDeployed();
  expect(shards.map(({ replicas }) => replicas.length)).toEqual([2, 2]);
  expect(new Set(shards.flatMap(({ replicas }) => replicas.map(({ peerId }) => peerId))).size).toBe(4);
  const answers = await Promise.all(names.map((name) => predict(gatewayOf(name))));
  expect(answers[0]).toHaveLength(40);
  for (const answer of answers) expect(answer).toEqual(answers[0]);
}, 60_000);

test("the gateway speaks the Open Inference Protocol v2", async () => {
  const get = async (path: string) => {
    const response = await fetch(`${gatewayOf("agent-1")}${path}`);
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  expect(await get("/v2/health/live")).toMatchObject({ status: 200, body: { live: true } });
  expect(await get("/v2/health/ready")).toMatchObject({ status: 200, body: { ready: true } });
  const metadata = { name: "digits", versions: ["1"], platform: expect.any(String) };
  expect(await get("/v2/models/digits")).toMatchObject({ status: 200, body: metadata });
  expect(await get("/v2/models/digits/versions/1")).toMatchObject({ status: 200, body: metadata });
  expect(await get("/v2/models/digits/versions/2")).toMatchObject({
    status: 404,
    body: { error: expect.any(String) },
  });
});

test("killing a replica under load costs no failed request, and its shards are placed anew", async () => {
  const expected = await predict(gatewayOf("agent-1"));
  const { shards } = await untilDeployed();
  const asked = names.find((name) => shards[0]!.replicas.some(({ peerId }) => peerId === peerIdOf(name)))!;
  const victim = names.find((name) => shards[1]!.replicas.some(({ peerId }) => peerId === peerIdOf(name)))!;
  let sent = 0;
  const failures: unknown[] = [];
  const client = async () => {
    while (sent < 400) {
      if (++sent === 100) void cluster.processes.agent(victim).kill();
      await predict(gatewayOf(asked)).then(
        (answer) => expect(answer).toEqual(expected),
        (error: unknown) => failures.push(error),
      );
    }
  };
  await Promise.all(Array.from({ length: 8 }, client));
  expect(failures).toEqual([]);
  const { shards: healed } = await untilDeployed();
  expect(healed.flatMap(({ replicas }) => replicas.map(({ peerId }) => peerId))).not.toContain(
    peerIdOf(victim),
  );
  await cluster.processes.startAgent(victim);
}, 90_000);

test("a new version takes over without a failed request", async () => {
  const { id } = await cluster
    .api()
    .submitJob(smallJob({ model: { architecture: "mlp", hidden: [16] }, epochs: 1 }));
  await cluster.untilJob(id, ({ state }) => state === "succeeded");
  const failures: unknown[] = [];
  let done = false;
  const load = (async () => {
    while (!done) await predict(gatewayOf("agent-1")).catch((error: unknown) => failures.push(error));
  })();
  await cluster.api().deploy("digits", { version: 2, shards: 2, replicas: 2 });
  await cluster.until((view) =>
    view.deployments.find(({ version, live, state }) => version === 2 && live && state === "ready"),
  );
  await expect
    .poll(
      async () =>
        (await infer({ gatewayUrl: gatewayOf("agent-1"), name: "digits" }, images, never)).model_version,
      { timeout: 10_000 },
    )
    .toBe("2");
  done = true;
  await load;
  expect(failures).toEqual([]);
}, 60_000);

test("versions and deployments survive the death of every process at once", async () => {
  const before = await predict(gatewayOf("agent-1"));
  const { versions } = await cluster.until((view) => view);
  const { processes } = cluster;
  await Promise.all([processes.coordinator.kill(), ...processes.liveAgents().map((agent) => agent.kill())]);
  await processes.startCoordinator();
  await Promise.all(names.map((name) => processes.startAgent(name)));
  await untilDeployed();
  expect((await cluster.until((view) => view)).versions.map(({ digest }) => digest)).toEqual(
    versions.map(({ digest }) => digest),
  );
  expect(await predict(gatewayOf("agent-2"))).toEqual(before);
}, 90_000);
