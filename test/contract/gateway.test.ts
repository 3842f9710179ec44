import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine } from "../../agent/engine/port.ts";
import { latencyCount } from "../../protocol/latency-histogram.ts";
import { limits } from "../../protocol/limits.ts";
import {
  answerWhole,
  makeVersion,
  openTestEngine,
  ServingCluster,
  type TrainedVersion,
} from "../fixtures/serving-cluster.ts";

/**
 * The Open Inference Protocol v2 as a client sees it, over real shard hosts: two shards with two replicas each on four
 * agents; the gateway under test hosts the first replica of shard 0.
 */
let engine: Engine;
let version: TrainedVersion;
let cluster: ServingCluster;

beforeAll(async () => {
  engine = await openTestEngine();
  version = await makeVersion(engine);
  cluster = new ServingCluster(4);
  const layerCount = version.manifest.model.layers.length;
  await cluster.deploy(version, {
    cuts: [2, layerCount],
    replicas: [
      [0, 1],
      [2, 3],
    ],
  });
}, 60_000);
afterAll(async () => {
  await cluster.close();
  engine.close();
});

const ask = (path: string, init?: RequestInit, node = 0) =>
  Promise.resolve(cluster.nodes[node]!.serving.gateway.request(path, init));
const post = (body: string | Uint8Array<ArrayBuffer>, path = "/v2/models/digits/infer", node = 0) =>
  ask(path, { method: "POST", body }, node);

/** The example with this number, the same every time. */
const example = (number: number) => Float32Array.from({ length: 64 }, (_, i) => Math.sin(number * 64 + i));
const bodyOf = (number: number, change: object = {}) =>
  JSON.stringify({
    id: String(number),
    inputs: [{ name: "input", shape: [1, 8, 8, 1], datatype: "FP32", data: [...example(number)], ...change }],
  });
interface InferenceReply {
  readonly id: string;
  readonly model_version: string;
  readonly outputs: { name: string; shape: number[]; datatype: string; data: number[] }[];
}

describe("health and metadata", () => {
  test.each([
    ["/healthz", { status: "ok" }],
    ["/readyz", { status: "ready" }],
    ["/v2", { name: "ringfold", version: "0.1.0", extensions: [] }],
    ["/v2/health/live", { live: true, ready: true }],
    ["/v2/health/ready", { live: true, ready: true }],
    ["/v2/models/digits/ready", { name: "digits", ready: true }],
    ["/v2/models/digits/versions/1/ready", { name: "digits", ready: true }],
  ])("GET %s", async (path, expected) => {
    const response = await ask(path);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(expected);
  });

  test.each(["/v2/models/digits", "/v2/models/digits/versions/1"])("GET %s", async (path) => {
    expect(await (await ask(path)).json()).toEqual({
      name: "digits",
      versions: ["1"],
      platform: "ringfold",
      inputs: [{ name: "input", datatype: "FP32", shape: [-1, 8, 8, 1] }],
      outputs: [{ name: "output", datatype: "FP32", shape: [-1, 10] }],
    });
  });

  test("an agent that has heard no coordinator is live but not ready", async () => {
    const alone = new ServingCluster(1);
    const { gateway } = alone.nodes[0]!.serving;
    expect((await gateway.request("/healthz")).status).toBe(200);
    expect((await gateway.request("/readyz")).status).toBe(503);
    const ready = await gateway.request("/v2/health/ready");
    expect([ready.status, await ready.json()]).toEqual([503, { live: true, ready: false }]);
    await alone.close();
  });
});

describe("inference", () => {
  test.each([
    ["/v2/models/digits/infer", 0],
    ["/v2/models/digits/versions/1/infer", 0],
    ["/v2/models/digits/infer", 3],
  ])("POST %s on agent %i answers what the whole model answers", async (path, node) => {
    const response = await post(bodyOf(5), path, node);
    expect(response.status).toBe(200);
    const expected = await answerWhole(engine, version, { shape: [1, 8, 8, 1], data: example(5) });
    expect(await response.json()).toEqual({
      model_name: "digits",
      model_version: "1",
      id: "5",
      outputs: [{ name: "output", shape: [1, 10], datatype: "FP32", data: [...expected] }],
    });
  });

  test("needs one attempt a hop while every replica is well", async () => {
    const { predictor } = cluster.nodes[0]!.serving;
    const { signal } = new AbortController();
    for (let number = 0; number < 20; number++) {
      const input = { shape: [1, 8, 8, 1], data: example(number) };
      const { hops } = await predictor.predict({ name: "digits", input }, signal);
      expect(hops.map(({ attempts }) => attempts)).toEqual([1, 1]);
    }
  });

  test("answers a batch of nested integers", async () => {
    const image = Array.from({ length: 8 }, (_, row) =>
      Array.from({ length: 8 }, (_, column) => [row * 8 + column]),
    );
    const response = await post(
      bodyOf(0, { shape: [3, 8, 8, 1], datatype: "UINT8", data: [image, image, image] }),
    );
    const { outputs } = (await response.json()) as InferenceReply;
    expect(outputs[0]!.shape).toEqual([3, 10]);
    expect(outputs[0]!.data.slice(0, 10)).toEqual(outputs[0]!.data.slice(20));
    expect(outputs[0]!.data.slice(0, 10).reduce((sum, value) => sum + value)).toBeCloseTo(1, 5);
  });
});

describe("refusals", () => {
  const endless = () =>
    new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 20).fill(0x20)) });
  const randomBytes = Uint8Array.from({ length: 500 }, (_, i) => (i * i * 7_919) % 256);

  test.each<[string, number, string, () => Promise<Response>]>([
    ["an unknown model", 404, "model letters is not deployed", () => ask("/v2/models/letters")],
    ["an unknown version", 404, "no live version 2", () => ask("/v2/models/digits/versions/2")],
    [
      "a version that is no number",
      404,
      "no live version",
      () => ask("/v2/models/digits/versions/1.0/ready"),
    ],
    ["inference on an unknown model", 404, "letters", () => post(bodyOf(1), "/v2/models/letters/infer")],
    ["an unknown route", 404, "no route GET /v3", () => ask("/v3")],
    ["GET of infer", 404, "no route", () => ask("/v2/models/digits/infer")],
    ["an empty body", 400, "not JSON", () => post("")],
    ["random bytes", 400, "not JSON", () => post(randomBytes)],
    ["a name from the prototype", 404, "not deployed", () => ask("/v2/models/__proto__")],
    ["another shape", 400, "shape [1,4,16,1]", () => post(bodyOf(1, { shape: [1, 4, 16, 1] }))],
    ["an empty batch", 400, "shape [0,8,8,1]", () => post(bodyOf(1, { shape: [0, 8, 8, 1], data: [] }))],
    ["too little data", 400, "inputs[0].data", () => post(bodyOf(1, { data: [1, 2] }))],
    ["text", 400, "inputs[0].datatype", () => post(bodyOf(1, { datatype: "BYTES" }))],
    ["NaN", 400, "inputs[0].data[0]", () => post(bodyOf(1, { data: Array(64).fill(Number.NaN) }))],
    ["another name", 400, "inputs[0].name", () => post(bodyOf(1, { name: "image" }))],
    [
      "binary tensors",
      400,
      "binary tensors",
      () =>
        ask("/v2/models/digits/infer", {
          method: "POST",
          body: bodyOf(1),
          headers: { "Inference-Header-Content-Length": "9" },
        }),
    ],
    [
      "a declared length beyond the bound",
      413,
      "larger than",
      () =>
        ask("/v2/models/digits/infer", {
          method: "POST",
          body: "{}",
          headers: { "content-length": String(limits.predictBodyBytes + 1) },
        }),
    ],
    [
      "an endless body",
      413,
      "larger than",
      () =>
        ask("/v2/models/digits/infer", { method: "POST", body: endless(), duplex: "half" } as RequestInit),
    ],
  ])("%s: %i", async (_, status, message, send) => {
    const response = await send();
    const body = (await response.json()) as { error: string };
    expect([response.status, body.error]).toEqual([status, expect.stringContaining(message)]);
    expect(Object.keys(body)).toEqual(["error"]);
  });
});

describe("while a version is rolled out", () => {
  const layerCount = () => version.manifest.model.layers.length;
  let both: ServingCluster;
  beforeAll(async () => {
    both = new ServingCluster(2);
    await both.deploy(version, { cuts: [layerCount()], replicas: [[0]] });
    const broken = await makeVersion(engine, { weightsTimes: 1e30 });
    const candidate = { version: 2, weight: 50 };
    await both.deploy(broken, { cuts: [2, layerCount()], replicas: [[0], [1]], candidate });
  }, 60_000);
  afterAll(() => both.close());

  const askBoth = (number: number, path = "/v2/models/digits/infer") =>
    both.nodes[1]!.serving.gateway.request(path, { method: "POST", body: bodyOf(number) });

  test("a candidate whose answers are no numbers costs no request, and every gateway says how often", async () => {
    const expected = await answerWhole(engine, version, { shape: [1, 8, 8, 1], data: example(7) });
    for (let number = 0; number < 40; number++) {
      const reply = (await (await askBoth(number)).json()) as InferenceReply;
      expect(reply).toMatchObject({ model_version: "1", id: String(number) });
      if (number === 7) expect(reply.outputs[0]!.data).toEqual([...expected]);
    }
    const [candidate, live] = both.nodes[1]!.serving.served();
    expect(candidate).toMatchObject({ deployment: 2, errors: { NOT_FINITE: candidate!.requests } });
    expect(candidate!.requests).toBeGreaterThan(10);
    expect(live).toMatchObject({ deployment: 1, requests: 40, errors: {} });
    expect(latencyCount(live!.latency)).toBe(40);
    expect(both.nodes[0]!.serving.served()).toMatchObject([{ requests: 0 }, { requests: 0 }]);
  });

  test("who names the candidate gets its word, and no other's", async () => {
    const response = await askBoth(1, "/v2/models/digits/versions/2/infer");
    expect([response.status, await response.json()]).toEqual([
      422,
      { error: "digits@2 gave a number that is not finite" },
    ]);
    expect((await askBoth(1, "/v2/models/digits/versions/1/infer")).status).toBe(200);
    expect((await askBoth(1, "/v2/models/digits/versions/3/infer")).status).toBe(404);
  });
});

test("a replica of each shard dies under load: no request fails and no answer changes", async () => {
  const requestCount = 200;
  const concurrency = 8;
  // Asked by turns: agent 0 hosts shard 0 and reaches shard 1 by the network, agent 3 the other way round.
  const answers: (InferenceReply | string)[] = [];
  let next = 0;
  const client = async () => {
    while (next < requestCount) {
      const number = next++;
      if (number === 60) cluster.crash(2);
      if (number === 120) cluster.crash(1);
      const response = await post(bodyOf(number), "/v2/models/digits/infer", number % 2 === 0 ? 0 : 3);
      answers[number] = response.ok ? ((await response.json()) as InferenceReply) : await response.text();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, client));
  const inputs = Float32Array.from(
    { length: requestCount * 64 },
    (_, i) => example(Math.floor(i / 64))[i % 64]!,
  );
  const expected = await answerWhole(engine, version, { shape: [requestCount, 8, 8, 1], data: inputs });
  expect(answers).toHaveLength(requestCount);
  for (const [number, answer] of answers.entries()) {
    expect(answer).toMatchObject({
      id: String(number),
      outputs: [{ data: [...expected.subarray(number * 10, number * 10 + 10)] }],
    });
  }
}, 30_000);

test("when the last replica of a shard is gone, the answer says what is missing", async () => {
  cluster.crash(3);
  const response = await post(bodyOf(1));
  expect(response.status).toBe(503);
  expect(response.headers.get("retry-after")).toBe("1");
  expect(await response.json()).toEqual({ error: expect.stringContaining("replicas of shard digits@1#1/1") });
});
