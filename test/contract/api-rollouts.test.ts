import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { rolloutViewSchema } from "../../protocol/messages/rollout.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** Rollouts over HTTP; each answer is what the OpenAPI document says. */

let worker: BenchWorker;
let request: ReturnType<typeof describedApi>;
beforeEach(async () => {
  const bench = new CoordinatorBench();
  const coordinator = await bench.start();
  request = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
  worker = await bench.worker(1);
  for (const jobId of ["job-1", "job-2"]) {
    await coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
    await trainThrough(worker, jobId);
  }
  await coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 });
  await bench.settle();
  await worker.loadShards();
});

const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  request(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { authorization: "Bearer token", ...headers },
  });
const wanted = { name: "digits", version: 2, steps: [20, 100], bounds: { minRequests: 7 } };
const readRollout = async (answer: Response) => rolloutViewSchema.parse(await answer.json());

test("a rollout is made once for one key, has defaults, and is found where the answer says", async () => {
  const answer = await post("/api/rollouts", wanted, { "idempotency-key": '"one"' });
  expect([answer.status, answer.headers.get("location")]).toEqual([201, "/api/rollouts/digits"]);
  const made = await readRollout(answer);
  expect(made).toMatchObject({
    ...{ name: "digits", version: 2, fromVersion: 1, state: "placing", weight: 0, holdSeconds: 60 },
    bounds: { minRequests: 7, maxErrorRate: 0.02, maxLatencyRatio: 1.5, latencySlackMs: 10 },
  });
  expect(await readRollout(await post("/api/rollouts", wanted, { "idempotency-key": '"one"' }))).toEqual(
    made,
  );
  expect((await post("/api/rollouts", wanted, { "idempotency-key": '"two"' })).status).toBe(409);
  expect(await readRollout(await request("/api/rollouts/digits"))).toEqual(made);
  expect(await (await request("/api/rollouts?state=placing")).json()).toEqual({ items: [made], next: null });
  expect(await (await request("/api/rollouts?state=promoted")).json()).toEqual({ items: [], next: null });
});

test.each([
  { steps: [] },
  { steps: [50, 20] },
  { steps: [0, 50] },
  { steps: [50, 101] },
  { steps: [10.5] },
  { holdSeconds: -1 },
  { bounds: { maxErrorRate: 2 } },
  { bounds: { maxLatencyRatio: 0.5 } },
  { bounds: { minRequests: 0 } },
  { bounds: { other: 1 } },
  { name: "No Name" },
])("what makes no sense is refused by name: %j", async (changes) => {
  const answer = await post("/api/rollouts", { ...wanted, ...changes });
  expect(answer.status).toBe(400);
  const [field] = Object.keys(changes);
  expect(await answer.json()).toMatchObject({
    code: "REQUEST_INVALID",
    detail: expect.stringMatching(`^${field}`),
  });
});

test("orders go by the tag of what their giver has seen", async () => {
  await post("/api/rollouts", wanted);
  const tag = (await request("/api/rollouts/digits")).headers.get("etag")!;
  const paused = await post("/api/rollouts/digits/pause", { reason: "lunch" }, { "if-match": tag });
  expect(await readRollout(paused)).toMatchObject({
    state: "paused",
    reason: "paused at 0% by an operator: lunch",
  });
  expect((await post("/api/rollouts/digits/abort", {}, { "if-match": tag })).status).toBe(412);
  expect(await (await post("/api/rollouts/digits/promote", { full: true })).json()).toMatchObject({
    code: "CONFLICT",
    detail: "digits@2 cannot answer all requests: 0 of 1 replicas are ready",
  });
  await worker.loadShards();
  expect(await readRollout(await post("/api/rollouts/digits/promote", { full: true }))).toMatchObject({
    state: "promoted",
    weight: 0,
  });
  expect((await post("/api/rollouts/digits/abort", {})).status).toBe(409);
  expect((await post("/api/rollouts/letters/pause", {})).status).toBe(404);
});
