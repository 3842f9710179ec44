import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type CoordinatorServer, problem, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { clusterView, deploymentView, peerView } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

let folder: string;
let server: CoordinatorServer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-serving-"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());

const env = () => ({ RINGFOLD_COORDINATOR: server.url });
const run = (userArguments: string[], input = "") => runRingfold(userArguments, { env: env(), input });

describe("deploy", () => {
  beforeEach(() => {
    server.routes.set("PUT /api/deployments/digits", () => ({ body: deploymentView() }));
  });

  test("waits until the deployment that it asked for is ready", async () => {
    const { outcome } = startRingfold(["deploy", "digits@1", "--shards", "2", "--replicas", "3"], {
      env: env(),
    });
    server.routes.set("GET /api/deployments", () => ({ body: [deploymentView({ state: "loading" })] }));
    const events = await server.nextSubscriber();
    const stale = deploymentView({ deployment: 6, version: 7, revision: 2, state: "ready" });
    events.publish(clusterView({ deployments: [stale] }));
    events.publish(
      clusterView({ deployments: [deploymentView({ state: "degraded", reason: "1 of 2 ready" })] }),
    );
    events.publish(clusterView({ deployments: [deploymentView({ state: "ready", reason: "all ready" })] }));
    const { exitCode, stdout, stderr } = await outcome;
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^digits@1 +ready +0 +0-3 +AAAAAA/m);
    expect(stderr).toContain("digits@1 degraded: 1 of 2 ready");
    expect(server.requests[0]?.body).toEqual({ version: 1, shards: 2, replicas: 3 });
  });

  test("that is replaced meanwhile is a conflict: 65", async () => {
    const { outcome } = startRingfold(["deploy", "digits@1"], { env: env() });
    const newer = deploymentView({ deployment: 2, version: 2, revision: 4 });
    server.routes.set("GET /api/deployments", () => ({ body: [newer] }));
    (await server.nextSubscriber()).publish(clusterView({ deployments: [newer] }));
    expect((await outcome).exitCode).toBe(65);
  });

  test("that does not get ready in time says where it stands: 75", async () => {
    const { outcome } = startRingfold(["deploy", "digits@1", "--timeout", "1", "--json"], { env: env() });
    const loading = deploymentView({ reason: "weights at 40%" });
    (await server.nextSubscriber()).publish(clusterView({ deployments: [loading] }));
    const { exitCode, stdout } = await outcome;
    expect(exitCode).toBe(75);
    expect(JSON.parse(stdout).error).toMatchObject({
      code: "REQUEST_TIMEOUT",
      message: "digits@1 is loading after 1 s: weights at 40%",
    });
  });

  test("--no-wait returns at once; remove removes", async () => {
    expect(await run(["deploy", "digits@1", "--no-wait"])).toMatchObject({ exitCode: 0 });
    server.routes.set("DELETE /api/deployments/digits", () => ({ body: {} }));
    expect(await run(["deploy", "remove", "digits"])).toMatchObject({
      exitCode: 0,
      stdout: "digits is no longer served\n",
    });
  });
});

/** A model of three classes whose scores are the first three numbers of each example. */
function answerInference(body: unknown) {
  const [input] = (body as { inputs: [{ shape: number[]; data: number[] }] }).inputs;
  const [count = 0] = input.shape;
  const width = input.data.length / count;
  const rows = Array.from({ length: count }, (_, row) => input.data.slice(row * width, row * width + 3));
  return {
    body: {
      model_name: "digits",
      model_version: "1",
      outputs: [{ name: "output", shape: [count, 3], datatype: "FP32", data: rows.flat() }],
    },
  };
}

describe("predict", () => {
  /** The coordinator and the gateway share a server here; `/v2` is the gateway's. */
  beforeEach(() => {
    server.routes.set("GET /api/peers", () => ({ body: [peerView({ gatewayUrl: server.url })] }));
    server.routes.set("POST /v2/models/digits/infer", ({ body }) => answerInference(body));
  });

  test("nested arrays from stdin, by the gateway that the coordinator names", async () => {
    const { exitCode, stdout } = await run(
      ["predict", "digits", "--input", "-"],
      "[[0.1,0.7,0.2],[0.5,0.3,0.2]]",
    );
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^INDEX +CLASS +SCORE\n0 +1 +0\.7000\n1 +0 +0\.5000\n$/);
    expect(server.requests.at(-1)?.body).toMatchObject({
      inputs: [{ name: "input", shape: [2, 3], datatype: "FP32" }],
    });
  });

  test("a request of the inference protocol from a file, for one version, by a gateway that is named", async () => {
    const path = join(folder, "request.json");
    await writeFile(path, JSON.stringify({ inputs: [{ name: "x", shape: [1, 3, 1], data: [0, 0, 1] }] }));
    server.routes.set("POST /v2/models/digits/versions/4/infer", ({ body }) => answerInference(body));
    const { stdout } = await run(["predict", "digits@4", "--input", path, "--gateway", server.url, "--json"]);
    expect(JSON.parse(stdout)).toEqual({
      model: "digits",
      version: "1",
      predictions: [{ index: 0, class: 2, scores: [0, 0, 1] }],
    });
    expect(server.requests.map(({ path: asked }) => asked)).toEqual(["/v2/models/digits/versions/4/infer"]);
  });

  test("images of the MNIST test set with their labels, in batches", async () => {
    const { exitCode, stdout } = await run(["predict", "digits", "--mnist-test", "5..154", "--json"]);
    expect(exitCode).toBe(0);
    const { predictions, correct, accuracy } = JSON.parse(stdout);
    expect(predictions).toHaveLength(150);
    expect(predictions[0].index).toBe(5);
    // The labels of the test images 5 to 9, as published with the data set.
    expect(predictions.slice(0, 5).map(({ label }: { label: number }) => label)).toEqual([1, 4, 9, 5, 9]);
    expect(accuracy).toBeCloseTo(correct / 150);
    const shapes = server.requests
      .filter(({ path }) => path.startsWith("/v2"))
      .map(({ body }) => (body as { inputs: [{ shape: number[] }] }).inputs[0].shape);
    expect(shapes).toEqual([
      [100, 28, 28, 1],
      [50, 28, 28, 1],
    ]);
  });

  test("goes to the next gateway when one is gone", async () => {
    const gone = await startCoordinatorServer();
    await gone[Symbol.asyncDispose]();
    server.routes.set("GET /api/peers", () => ({
      body: [
        peerView({ gatewayUrl: "http://127.0.0.1:1", state: "dead" }),
        peerView({ gatewayUrl: gone.url }),
        peerView({ gatewayUrl: server.url }),
      ],
    }));
    const { exitCode, stderr } = await run(["predict", "digits", "--input", "-"], "[[0,1,0]]");
    expect(exitCode).toBe(0);
    expect(stderr).toBe(`no gateway answers at ${gone.url} (ECONNREFUSED); asking the next\n`);
  });

  test.each([
    ["nothing to predict", [], "", 64, "nothing to predict"],
    ["two inputs", ["--input", "-", "--mnist-test", "1"], "", 64, "cannot be used with"],
    ["an image beyond the test set", ["--mnist-test", "9999..10000"], "", 64, "images 0..9999"],
    ["no file", ["--input", "/nonexistent/x.json"], "", 66, "/nonexistent/x.json"],
    ["no JSON", ["--input", "-"], "[[1,", 65, "is not JSON"],
    ["ragged arrays", ["--input", "-"], "[[1,2],[3]]", 65, "shape [2, 2] needs 4 numbers, and there are 3"],
    ["text among the numbers", ["--input", "-"], '[[1,"2"]]', 65, 'holds "2" at 1'],
    ["no numbers", ["--input", "-"], "{}", 65, "no array of numbers"],
  ])("%s", async (_what, options, input, expected, message) => {
    const { exitCode, stderr } = await run(["predict", "digits", ...options], input);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(expected);
  });

  test.each([
    [404, 66],
    [429, 75],
    [503, 69],
  ])("a gateway that answers %i: %i", async (status, expected) => {
    server.routes.set("POST /v2/models/digits/infer", () => ({
      status,
      body: { error: "the gateway's words" },
    }));
    const { exitCode, stderr } = await run(["predict", "digits", "--input", "-"], "[[1,2,3]]");
    expect(exitCode).toBe(expected);
    expect(stderr).toContain("the gateway's words");
  });

  test("no live gateway: 69; an unknown model: the coordinator is not to blame", async () => {
    server.routes.set("GET /api/peers", () => ({ body: [peerView()] }));
    expect((await run(["predict", "digits", "--input", "-"], "[[1]]")).exitCode).toBe(69);
    server.routes.set("GET /api/peers", () => problem(503, "OVERLOADED", "too many requests"));
    expect((await run(["predict", "digits", "--input", "-"], "[[1]]")).exitCode).toBe(75);
  });
});

describe("generate", () => {
  const places = 6;
  /** Its likeliest byte is the one after the last that it saw, in the alphabet. */
  beforeEach(() => {
    const shape = (length: number[]) => [{ name: "x", datatype: "FP32", shape: [-1, ...length] }];
    const metadata = { name: "abc", inputs: shape([places]), outputs: shape([places, 257]) };
    server.routes.set("GET /v2/models/abc", () => ({ body: metadata }));
    server.routes.set("POST /v2/models/abc/infer", ({ body }) => {
      const [{ data: tokens }] = (body as { inputs: [{ data: number[] }] }).inputs;
      const data = tokens.flatMap((token) =>
        Array.from({ length: 257 }, (_, next) => (next === token + 1 ? 0.9 : 0.0001)),
      );
      const output = { name: "output", shape: [1, places, 257], datatype: "FP32", data };
      return { body: { model_name: "abc", outputs: [output] } };
    });
  });
  const generate = (...more: string[]) =>
    run(["generate", "abc", "--gateway", server.url, "--json", "--tokens", "9", ...more]);

  test("continues a text token by token, also beyond what the model sees at once", async () => {
    const { exitCode, stdout } = await generate("--prompt", "ab", "--temperature", "0");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ model: "abc", prompt: "ab", text: "abcdefghijk", tokens: 9 });
    expect(server.requests.filter(({ path }) => path.endsWith("/infer"))).toHaveLength(9);
  });

  test("draws the same text by the same seed", async () => {
    const textOf = async (seed: string) =>
      JSON.parse((await generate("--prompt", "a", "--temperature", "8", "--seed", seed)).stdout).text;
    expect(await textOf("4")).toBe(await textOf("4"));
    expect(await textOf("5")).not.toBe(await textOf("4"));
  });

  test("refuses what is no language model over bytes", async () => {
    const shapes = { inputs: [{ shape: [-1, 28, 28, 1] }], outputs: [{ shape: [-1, 10] }] };
    server.routes.set("GET /v2/models/abc", () => ({ body: shapes }));
    const { exitCode, stdout } = await generate("--prompt", "a");
    expect(exitCode).toBe(65);
    expect(JSON.parse(stdout).error.message).toBe(
      "abc takes [28, 28, 1] and gives [10]: it is no language model over 257 tokens",
    );
  });
});
