import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { createApi } from "../../coordinator/api/app.ts";
import type { Coordinator } from "../../coordinator/port.ts";
import { routes } from "../../protocol/api/routes.ts";
import { readToken } from "../../protocol/credentials.ts";
import { errorRules, isErrorCode } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import {
  clusterViewSchema,
  deploymentViewSchema,
  issuedTokenSchema,
  jobViewSchema,
  observedSchema,
  peerViewSchema,
  problemSchema,
  reachabilityViewSchema,
  versionDetailSchema,
  versionViewSchema,
} from "../../protocol/messages/api.ts";
import { versionManifestSchema } from "../../protocol/messages/model.ts";
import { quotaViewSchema } from "../../protocol/messages/quota.ts";
import { sweepSummarySchema, sweepViewSchema } from "../../protocol/messages/sweep.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { digestOf, exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { memoryPeerId } from "../simulation/memory-network.ts";

const operatorToken = "operator-token-of-the-test-cluster";
const spec = exampleSpec({ workers: { min: 1, max: 2, spares: 0 } });

let bench: CoordinatorBench;
let app: ReturnType<typeof createApi>;
/** Each answer is checked against the OpenAPI document. */
let request: ReturnType<typeof describedApi>;
let coordinator: Coordinator;

beforeEach(async () => {
  bench = new CoordinatorBench();
  coordinator = await bench.start();
  app = createApi({ coordinator, operatorToken, addresses: () => [], log: silentLog });
  request = describedApi(app);
});

const authorized = { authorization: `Bearer ${operatorToken}` };
const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = authorized) =>
  request(path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });

const itemsOf = <T>(item: z.ZodType<T>) =>
  z.strictObject({ items: z.array(item), next: z.null() }).transform(({ items }) => items);

async function read<T>(
  response: Response | Promise<Response>,
  schema: z.ZodType<T>,
  status = 200,
): Promise<T> {
  const answer = await response;
  expect(answer.status).toBe(status);
  return schema.parse(await answer.json());
}

/** Checks a refusal against RFC 9457 and our table of errors. */
async function refusal(response: Response | Promise<Response>) {
  const answer = await response;
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  const problem = z.strictObject(problemSchema.shape).parse(await answer.json());
  expect(isErrorCode(problem.code)).toBe(true);
  expect(problem.status).toBe(answer.status);
  expect(problem.status).toBe(errorRules[problem.code as keyof typeof errorRules].http);
  expect(problem.remedy).not.toBe("");
  expect(JSON.stringify(problem)).not.toMatch(/\bat .*\.ts:\d/);
  return problem;
}

async function trained(): Promise<BenchWorker> {
  const worker = await bench.worker(1);
  await send("POST", "/api/jobs", spec);
  await trainThrough(worker, "job-1");
  return worker;
}

/** The routes that the table lists, with `{}` for parameters. */
const listedRoutes = Object.values(routes).map(
  ({ method, path }) => `${method} ${path.replaceAll(/\{\w+\}/g, "{}")}`,
);

test("the routes are those that the table lists", () => {
  const served = app.routes
    .filter(({ method, path }) => method !== "ALL" && !path.includes("*"))
    .map(({ method, path }) => `${method} ${path.replaceAll(/:\w+/g, "{}")}`);
  expect(new Set(served)).toEqual(new Set(listedRoutes));
});

describe("reading", () => {
  test("health and readiness", async () => {
    expect(await read(request("/healthz"), z.unknown())).toEqual({ live: true });
    expect(await read(request("/readyz"), z.unknown())).toMatchObject({ ready: true, reasons: [] });
  });

  test("the cluster before anything happens", async () => {
    const view = await read(request("/api/cluster"), z.strictObject(clusterViewSchema.shape));
    expect(view).toMatchObject({ name: "lab", peers: [], jobs: [], versions: [], deployments: [] });
    expect(view.coordinator.term).toBe(1);
  });

  test("the cluster after a job: peer, job, curve, version", async () => {
    const worker = await trained();
    const [peer] = await read(request("/api/peers"), itemsOf(peerViewSchema));
    expect(peer).toMatchObject({
      peerId: worker.peerId,
      name: "worker-1",
      roles: ["worker"],
      state: "alive",
    });
    const [listed] = await read(request("/api/jobs"), itemsOf(jobViewSchema));
    const job = await read(request("/api/jobs/job-1"), jobViewSchema);
    expect(job).toEqual(listed);
    expect(job).toMatchObject({ state: "succeeded", version: "digits@1", progress: { step: 4 } });
    expect(await read(request("/api/jobs/job-1/curve"), z.unknown())).toEqual([
      { step: 4, loss: 1, accuracy: 0.5 },
    ]);
    const [version] = await read(request("/api/models"), itemsOf(versionViewSchema));
    const full = await read(
      request("/api/models/digits/versions/1"),
      versionViewSchema.extend({ manifest: versionManifestSchema }),
    );
    expect(full).toMatchObject({ ...version, manifest: { lineage: { jobId: "job-1" } } });
    const cluster = await read(request("/api/cluster"), clusterViewSchema);
    expect(cluster).toMatchObject({ peers: [peer], jobs: [job], versions: [version] });
  });

  test("holders are the live peers that say they have the weights", async () => {
    const worker = await trained();
    const holders = async () => (await read(request("/api/models"), itemsOf(versionViewSchema)))[0]!.holders;
    expect(await holders()).toEqual([]);
    worker.hold("f".repeat(64));
    await worker.beat();
    expect(await holders()).toEqual([worker.peerId]);
    worker.crash();
    await bench.settle();
    expect(await holders()).toEqual([]);
  });

  test.each([
    "/api/jobs/job-7",
    "/api/jobs/job-7/curve",
    "/api/jobs/nonsense",
    "/api/sweeps/sweep-1",
    "/api/models/digits/versions/1",
    "/api/models/digits/versions/one",
    "/api/models/digits/versions/-1",
    "/api/nothing",
    "/api/jobs/%E0%A4%A",
    "/api/jobs/__proto__",
  ])("%s is not there", async (path) => {
    expect(await refusal(request(path))).toMatchObject({ code: "NOT_FOUND", status: 404 });
  });

  test.each([
    ["DELETE", "/api/jobs", "GET, POST"],
    ["PATCH", "/api/jobs/job-1", "GET"],
    ["PUT", "/api/jobs/job-1/pause", "POST"],
    ["OPTIONS", "/api/deployments/digits", "GET, PUT, DELETE"],
    ["POST", "/healthz", "GET"],
  ])("%s %s is answered with what is allowed", async (method, path, allowed) => {
    const answer = await request(path, { method, headers: authorized });
    expect(answer.headers.get("allow")).toBe(allowed);
    expect(await refusal(answer)).toMatchObject({ code: "METHOD_NOT_ALLOWED", status: 405 });
  });

  test("answers carry headers that keep a browser from guessing", async () => {
    const { headers } = await request("/api/cluster");
    expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  });

  test("a defect answers without a stack", async () => {
    const broken = createApi({
      ...{ operatorToken, addresses: () => [], log: silentLog },
      coordinator: {
        ...coordinator,
        view: () => {
          throw new TypeError("x is undefined\n    at somewhere.ts:1");
        },
      },
    });
    expect(await refusal(describedApi(broken)("/api/cluster"))).toMatchObject({
      code: "INTERNAL",
      detail: "x is undefined",
    });
  });
});

const mutations = [
  ["POST", `/api/peers/${memoryPeerId(1)}/drain`, undefined],
  ["POST", `/api/peers/${memoryPeerId(1)}/remove`, undefined],
  ["POST", "/api/jobs", spec],
  ["POST", "/api/sweeps", { ...spec, search: { method: "grid", space: { seed: { values: [1, 2] } } } }],
  ["POST", "/api/sweeps/sweep-1/cancel", undefined],
  ["POST", "/api/jobs/job-1/cancel", undefined],
  ["POST", "/api/jobs/job-1/pause", undefined],
  ["POST", "/api/jobs/job-1/resume", undefined],
  ["POST", "/api/jobs/job-1/retry", { reason: "again" }],
  ["PUT", "/api/jobs/job-1/priority", { priority: 9 }],
  ["PUT", "/api/quotas/vision", { jobs: 2 }],
  ["DELETE", "/api/quotas/vision", undefined],
  ["PUT", "/api/deployments/digits", { version: 1 }],
  ["DELETE", "/api/deployments/digits", undefined],
  ["POST", "/api/rollouts", { name: "digits", version: 1 }],
  ["POST", "/api/rollouts/digits/pause", undefined],
  ["POST", "/api/rollouts/digits/resume", undefined],
  ["POST", "/api/rollouts/digits/promote", { full: true }],
  ["POST", "/api/rollouts/digits/abort", { reason: "wrong data" }],
  ["DELETE", "/api/models/digits/versions/1", undefined],
  ["PUT", "/api/retention/digits", { keepLast: 3 }],
  ["DELETE", "/api/retention/digits", undefined],
  ["POST", "/api/models/digits/prune", { keepLast: 1 }],
  ["PUT", "/api/models/digits/aliases/champion", { version: 1 }],
  ["DELETE", "/api/models/digits/aliases/champion", undefined],
  ["POST", "/api/datasets", {}],
  ["DELETE", "/api/datasets/digits/versions/1", undefined],
  ["POST", "/api/documents", { kind: "config", name: "digits", content: spec, addedBy: "me" }],
  ["DELETE", "/api/documents/config/digits/versions/1", undefined],
  ["PUT", "/api/documents/config/digits/aliases/champion", { version: 1 }],
  ["DELETE", "/api/documents/config/digits/aliases/champion", undefined],
  ["POST", "/api/tokens", {}],
  ["DELETE", "/api/tokens/token-1", undefined],
  ["POST", "/api/reachability", { port: 80, challenge: "challenge-of-16-or-more" }],
] as const;

describe("changing", () => {
  test("every route of the contract that changes something is tried here", () => {
    const tried = mutations.map(
      ([method, path]) =>
        `${method} ${path
          .replace(memoryPeerId(1), "{}")
          .replace(/job-1|sweep-1|token-1/, "{}")
          .replace("documents/config", "documents/{}")
          .replace("digits", "{}")
          .replace("champion", "{}")
          .replace("vision", "{}")
          .replace("versions/1", "versions/{}")}`,
    );
    expect(new Set(tried)).toEqual(new Set(listedRoutes.filter((route) => !route.startsWith("GET"))));
  });

  test.each(mutations)("%s %s needs the operator token", async (method, path, body) => {
    const before = coordinator.view().events.length;
    const wrong = ["", "Bearer", "Bearer ", `Bearer ${operatorToken.replace(/.$/, "x")}`, operatorToken];
    for (const authorization of [...wrong, `Bearer ${operatorToken}x`, `Basic ${operatorToken}`]) {
      expect(await refusal(send(method, path, body, { authorization }))).toMatchObject({
        code: "UNAUTHENTICATED",
        status: 401,
      });
    }
    expect(await refusal(send(method, path, body, {}))).toMatchObject({ status: 401 });
    expect(coordinator.view().events).toHaveLength(before);
  });

  test("an empty operator token opens nothing", async () => {
    const open = createApi({ coordinator, operatorToken: "", addresses: () => [], log: silentLog });
    for (const headers of [{}, { authorization: "Bearer " }]) {
      expect(
        await refusal(describedApi(open)("/api/tokens", { method: "POST", headers, body: "{}" })),
      ).toMatchObject({
        status: 401,
      });
    }
  });

  describe("for the doctor", () => {
    /** The socket of a request, as @hono/node-server hands it on. */
    const from = (remoteAddress: string, remotePort = 50_000) => ({
      incoming: { socket: { remoteAddress, remotePort, remoteFamily: "IPv4" } },
    });

    test("whoever asks is told how it is seen", async () => {
      const answer = await request("/api/observed", {}, from("::ffff:10.0.0.7"));
      const observed = observedSchema.parse(await answer.json());
      expect(observed).toMatchObject({ address: "10.0.0.7", port: 50_000, addresses: [] });
      expect(Math.abs(observed.nowMs - Date.now())).toBeLessThan(10_000);
    });

    const challenge = "challenge-of-16-or-more";
    const dialled = async (says: string) => {
      const server = createServer((socket) => socket.on("error", () => {}).end(says)).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const init = { method: "POST", headers: authorized, body: JSON.stringify({ port, challenge }) };
      const answer = await request("/api/reachability", init, from("127.0.0.1"));
      server.close();
      return reachabilityViewSchema.parse(await answer.json());
    };

    test("it is dialled where it came from, and known by its challenge", async () => {
      expect(await dialled(challenge)).toMatchObject({ address: "127.0.0.1", reached: true });
      expect(await dialled("SSH-2.0-OpenSSH_9.2 and more")).toMatchObject({
        reached: false,
        detail: "another program answers there",
      });
      expect(await dialled("short")).toMatchObject({ reached: false });
    });

    test("nobody else can be dialled: a host in the request is refused", async () => {
      const body = { port: 80, challenge, host: "10.0.0.1" };
      expect(await refusal(send("POST", "/api/reachability", body))).toMatchObject({
        code: "REQUEST_INVALID",
      });
    });
  });

  test("a loss or a metric that the data cannot have is refused with what it can, in a job and in a sweep", async () => {
    const remedyOf = async (path: string, body: object) => {
      const { code, remedy } = await refusal(send("POST", path, body));
      expect(code).toBe("JOB_INVALID");
      return remedy;
    };
    expect(await remedyOf("/api/jobs", { ...spec, metrics: ["auc"] })).toContain("macro-f1");
    expect(await remedyOf("/api/jobs", { ...spec, loss: { kind: "mse" } })).toContain("cross-entropy");
    const evaluation = { everySteps: 1, metric: "r2" };
    expect(await remedyOf("/api/jobs", { ...spec, evaluation })).toContain("top-5-accuracy");
    const space = { seed: { values: [1, 2] } };
    const sweep = { ...spec, search: { method: "grid", metric: "perplexity", space } };
    expect(await remedyOf("/api/sweeps", sweep)).toContain("accuracy");
    expect(await read(request("/api/jobs"), itemsOf(jobViewSchema))).toEqual([]);
  });

  test("tables of classes are the version's, and not in what is listed of jobs", async () => {
    const worker = await bench.worker(1);
    await send("POST", "/api/jobs", { ...spec, metrics: ["confusion-matrix", "per-class"] });
    const confusion = [[3, 1], [0, 4]]; // biome-ignore format: a class each
    const classes = [0.75, 1].map((recall) => ({ support: 4, precision: 0.8, recall, f1: 0.8 }));
    const evaluation = { examples: 8, loss: 0.5, accuracy: 0.875, metrics: { "macro-f1": 0.8 } };
    const about = { jobId: "job-1", generation: 1 };
    await worker.report("ready", { jobId: "job-1" });
    await worker.report("finished", {
      ...{ ...about, weights: digestOf("f"), evaluation: { ...evaluation, confusion, classes } },
    });
    const job = await read(request("/api/jobs/job-1"), jobViewSchema);
    expect(job).toMatchObject({ state: "succeeded", version: "digits@1" });
    expect(job.evaluation).toEqual(evaluation);
    const detail = await read(request("/api/models/digits/versions/1"), versionDetailSchema);
    expect(detail.manifest.metrics).toMatchObject({ further: { "macro-f1": 0.8 }, confusion, classes });
  });

  test("a job is paused, resumed, cancelled and tried again, each with a reason for the log", async () => {
    await read(send("POST", "/api/jobs", spec), jobViewSchema, 201);
    const steer = (action: string, body?: object) =>
      read(send("POST", `/api/jobs/job-1/${action}`, body), jobViewSchema);
    const paused = await steer("pause", { reason: "the room is hot" });
    expect(paused.state).toBe("paused");
    expect(paused.reason).toBe("paused by an operator: the room is hot, before its first step");
    expect(coordinator.view().events.at(-1)).toMatchObject({ message: `paused: ${paused.reason}` });
    expect(await refusal(send("POST", "/api/jobs/job-1/pause"))).toMatchObject({ code: "CONFLICT" });
    expect(await steer("resume")).toMatchObject({ state: "waiting" });
    expect(await steer("cancel")).toMatchObject({ state: "cancelled", endedAtMs: expect.any(Number) });
    expect(await steer("retry")).toMatchObject({ state: "waiting", endedAtMs: null });
    const longWinded = { reason: "x".repeat(501) };
    expect(await refusal(send("POST", "/api/jobs/job-1/cancel", longWinded))).toMatchObject({
      code: "REQUEST_INVALID",
    });
  });

  test("the queue tells places and reasons, and an operator changes the order", async () => {
    const needy = { ...spec, workers: { min: 2, max: 2, spares: 0 } };
    for (const body of [needy, spec]) await read(send("POST", "/api/jobs", body), jobViewSchema, 201);
    const places = async () =>
      (await read(request("/api/jobs"), itemsOf(jobViewSchema))).map((job) => job.queuePosition);
    expect(await places()).toEqual([1, 2]);
    const job = await read(send("PUT", "/api/jobs/job-2/priority", { priority: 9 }), jobViewSchema);
    expect(job).toMatchObject({ priority: 9, queuePosition: 1 });
    expect(job.reason).toBe("waits for 1 more worker: 0 of 1 present");
    expect(coordinator.view().events.at(-1)).toMatchObject({ message: "priority 9, was 5" });
    for (const priority of [-1, 10, 1.5, "high"])
      expect(await refusal(send("PUT", "/api/jobs/job-2/priority", { priority }))).toMatchObject({
        code: "REQUEST_INVALID",
      });
    await send("POST", "/api/jobs/job-2/cancel");
    expect(await places()).toEqual([1, null]);
    expect(await refusal(send("PUT", "/api/jobs/job-2/priority", { priority: 1 }))).toMatchObject({
      code: "CONFLICT",
    });
  });

  test("a quota is set, shown with what is used, replaced and removed", async () => {
    const set = await read(send("PUT", "/api/quotas/vision", { jobs: 0 }), quotaViewSchema);
    expect(set).toEqual({
      ...{ project: "vision", agents: null, jobs: 0 },
      used: { agents: 0, jobs: 0, waiting: 0 },
    });
    const submitted = await read(
      send("POST", "/api/jobs", { ...spec, project: "vision" }),
      jobViewSchema,
      201,
    );
    expect(submitted.reason).toBe("waits: project vision may run no jobs");
    await read(send("PUT", "/api/quotas/vision", { agents: 1, jobs: null }), quotaViewSchema);
    expect(await read(request("/api/quotas"), itemsOf(quotaViewSchema))).toMatchObject([
      { agents: 1, jobs: null, used: { waiting: 1 } },
    ]);
    expect(await refusal(send("PUT", "/api/quotas/vision", {}))).toMatchObject({ code: "REQUEST_INVALID" });
    expect(await refusal(send("PUT", "/api/quotas/vision", { agents: -1 }))).toMatchObject({
      code: "REQUEST_INVALID",
    });
    expect((await send("DELETE", "/api/quotas/vision")).status).toBe(200);
    expect(await refusal(request("/api/quotas/vision"))).toMatchObject({ code: "NOT_FOUND" });
    expect(await refusal(send("DELETE", "/api/quotas/vision"))).toMatchObject({ code: "NOT_FOUND" });
  });

  test("a sweep is submitted as a job file with `search`, shown, and cancelled once", async () => {
    const { name, model, data } = spec;
    const file = { name, model, data, search: { method: "grid", space: { seed: { values: [1, 2] } } } };
    const sweep = await read(send("POST", "/api/sweeps", file), sweepViewSchema, 201);
    expect(sweep).toMatchObject({ id: "sweep-1", state: "running", trials: [{ state: "waiting" }, {}] });
    expect(await read(request("/api/sweeps"), itemsOf(sweepSummarySchema))).toMatchObject([
      { trialCount: 2 },
    ]);
    const cancelled = await read(
      send("POST", "/api/sweeps/sweep-1/cancel", { reason: "no" }),
      sweepViewSchema,
    );
    expect(cancelled.reason).toBe("cancelled by an operator: no");
    expect(await read(request("/api/sweeps/sweep-1"), sweepViewSchema)).toEqual(cancelled);
    expect(await refusal(send("POST", "/api/sweeps/sweep-1/cancel"))).toMatchObject({ code: "CONFLICT" });
    const wrong = { ...file, search: { ...file.search, space: { batchsize: { values: [8] } } } };
    expect(await refusal(send("POST", "/api/sweeps", wrong))).toMatchObject({
      code: "JOB_INVALID",
      detail: "search.space.batchsize: is no key of this job: did you mean batchSize?",
    });
  });

  test("what is made says where it is", async () => {
    const made = await send("POST", "/api/jobs", spec);
    expect(made.headers.get("location")).toBe("/api/jobs/job-1");
    expect((await request("/api/jobs/job-1")).status).toBe(200);
  });

  test("a job is submitted with its defaults, numbered, and cancelled once", async () => {
    const { name, model, data } = spec;
    const first = await read(send("POST", "/api/jobs", { name, model, data }), jobViewSchema, 201);
    expect(first).toMatchObject({
      id: "job-1",
      state: "waiting",
      spec: { batchSize: 64, transport: "encrypted" },
    });
    expect((await read(send("POST", "/api/jobs", spec), jobViewSchema, 201)).id).toBe("job-2");
    const cancelled = await read(send("POST", "/api/jobs/job-1/cancel"), jobViewSchema);
    expect(cancelled).toMatchObject({ state: "cancelled", endedAtMs: bench.clock.nowMs() });
    expect(await refusal(send("POST", "/api/jobs/job-1/cancel"))).toMatchObject({ code: "CONFLICT" });
    expect(await refusal(send("POST", "/api/jobs/job-9/cancel"))).toMatchObject({ code: "NOT_FOUND" });
  });

  test.each([
    [{ ...spec, epochz: 3 }, "body: "],
    [{ ...spec, optimizer: { kind: "adam", lr: 1 } }, "optimizer: "],
    [{ ...spec, batchSize: "64" }, "batchSize: "],
    [{ ...spec, workers: { min: 2, max: 1, spares: 0 } }, "workers.min: "],
    [[], "body: "],
    [null, "body: "],
  ])("a job with mistakes names them all: %#", async (body, where) => {
    const problem = await refusal(send("POST", "/api/jobs", body));
    expect(problem).toMatchObject({ code: "JOB_INVALID", status: 422 });
    expect(problem.data.mistakes).toEqual([expect.stringContaining(where)]);
    expect(coordinator.view().jobs).toEqual([]);
  });

  test.each(["", "{", "name: digits", "\u0000"])("a body that is not JSON is refused: %j", async (body) => {
    for (const path of ["/api/jobs", "/api/tokens"]) {
      expect(await refusal(send("POST", path, body))).toMatchObject({ code: "REQUEST_INVALID", status: 400 });
    }
  });

  test("a body over the limit is refused, whether or not it says its length", async () => {
    const large = `"${"x".repeat(limits.httpBodyBytes)}"`;
    const streamed = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode(large));
        controller.close();
      },
    });
    const init = { method: "POST", headers: authorized, body: streamed, duplex: "half" };
    for (const response of [
      send("POST", "/api/jobs", large, { ...authorized, "content-length": `${large.length}` }),
      request("/api/jobs", init as RequestInit),
    ]) {
      expect(await refusal(response)).toMatchObject({ code: "PAYLOAD_TOO_LARGE", status: 413 });
    }
  });

  test("keys that reach for a prototype are mistakes like any other", async () => {
    const body = JSON.stringify(spec).replace("{", '{"__proto__":{"admin":true},');
    const response = await send("POST", "/api/jobs", body);
    expect([201, 422]).toContain(response.status);
    expect(({} as Record<string, unknown>).admin).toBeUndefined();
  });

  test("a version is deployed, becomes ready, and is removed", async () => {
    const worker = await trained();
    const deployed = await read(
      send("PUT", "/api/deployments/digits", { version: 1, shards: 2 }),
      deploymentViewSchema,
    );
    expect(deployed).toMatchObject({ version: 1, shardCount: 2, replicaCount: 1, state: "loading" });
    await bench.settle();
    await worker.loadShards();
    const [ready] = await read(request("/api/deployments"), itemsOf(deploymentViewSchema));
    expect(ready).toMatchObject({ state: "ready", reason: "2 of 2 replicas are ready" });
    expect(await read(send("DELETE", "/api/deployments/digits"), z.unknown())).toEqual({});
    expect(await read(request("/api/deployments"), itemsOf(deploymentViewSchema))).toEqual([]);
    expect(await refusal(send("DELETE", "/api/deployments/digits"))).toMatchObject({ code: "NOT_FOUND" });
  });

  test.each([
    [{ version: 2 }, "NOT_FOUND"],
    [{ version: 1, shards: 3 }, "REQUEST_INVALID"],
    [{ version: 1, replicas: 2 }, "INSUFFICIENT_WORKERS"],
    [{ version: 0 }, "REQUEST_INVALID"],
    [{ version: 1, replica: 1 }, "REQUEST_INVALID"],
    [{}, "REQUEST_INVALID"],
  ])("a deployment of %j is refused with %s", async (body, code) => {
    await trained();
    expect(await refusal(send("PUT", "/api/deployments/digits", body))).toMatchObject({ code });
    expect(coordinator.view().deployments).toEqual([]);
  });

  test("a token admits a worker for as long as it was asked for", async () => {
    const token = async (body: object) =>
      (await read(send("POST", "/api/tokens", body), issuedTokenSchema.strict())).token;
    const nowMs = bench.clock.nowMs();
    const claims = await readToken(await token({}), nowMs);
    expect(claims).toMatchObject({ iss: "lab", role: "worker", exp: nowMs / 1_000 + 86_400 });
    const short = await token({ role: "server", expiresInSeconds: 60 });
    expect(await readToken(short, nowMs)).toMatchObject({ role: "server" });
    await expect(readToken(short, nowMs + 60_000)).rejects.toMatchObject({ code: "TOKEN_EXPIRED" });
    for (const body of [{ role: "king" }, { expiresInSeconds: 0 }, { forever: true }]) {
      expect(await refusal(send("POST", "/api/tokens", body))).toMatchObject({ code: "REQUEST_INVALID" });
    }
  });
});
