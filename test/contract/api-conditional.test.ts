import { beforeEach, describe, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { problemSchema } from "../../protocol/messages/api.ts";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";
import { CoordinatorBench, trainThrough } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** ETag, If-None-Match and If-Match (RFC 9110, sections 8.8 and 13). */

const spec = exampleSpec({ workers: { min: 1, max: 1, spares: 0 } });
let bench: CoordinatorBench;
let request: ReturnType<typeof describedApi>;

async function start(): Promise<void> {
  const coordinator = await bench.start();
  request = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
}

beforeEach(async () => {
  bench = new CoordinatorBench();
  await start();
  await bench.coordinator.submitJob(spec);
});

const tagOf = async (path: string): Promise<string> => (await request(path)).headers.get("etag")!;
const knowing = (path: string, tags: string) => request(path, { headers: { "if-none-match": tags } });
const steer = (action: string, ifMatch?: string) =>
  request(`/api/jobs/job-1/${action}`, {
    method: "POST",
    headers: { authorization: "Bearer token", ...(ifMatch !== undefined && { "if-match": ifMatch }) },
  });

describe("If-None-Match", () => {
  test.each([
    "/api/jobs",
    "/api/jobs/job-1",
    "/api/jobs/job-1/curve",
    "/api/peers",
    "/api/models",
    "/openapi.json",
  ])("%s has a strong tag, and is not sent to who knows it", async (path) => {
    const tag = await tagOf(path);
    expect(tag).toMatch(/^"[\w-]{22}(\.[\w-]{22})?"$/);
    for (const tags of [tag, `"other", ${tag}`, `W/${tag}`, "*"]) {
      const answer = await knowing(path, tags);
      expect(answer.status).toBe(304);
      expect(answer.headers.get("etag")).toBe(tag);
      expect(await answer.text()).toBe("");
    }
    for (const tags of ['"other"', "", "nonsense"]) expect((await knowing(path, tags)).status).toBe(200);
  });

  test("a tag changes with what is shown, a filter and a page included", async () => {
    const tag = await tagOf("/api/jobs");
    await bench.coordinator.submitJob(spec);
    expect((await knowing("/api/jobs", tag)).status).toBe(200);
    const tags = await Promise.all(
      ["?limit=1", "?limit=2", "?state=failed"].map((q) => tagOf(`/api/jobs${q}`)),
    );
    expect(new Set(tags).size).toBe(3);
  });
});

describe("If-Match", () => {
  test("a job is steered by who has seen it last", async () => {
    const seen = await tagOf("/api/jobs/job-1");
    expect((await steer("pause", seen)).status).toBe(200);
    const refused = await steer("cancel", seen);
    expect(problemSchema.parse(await refused.json())).toMatchObject({
      code: "PRECONDITION_FAILED",
      status: 412,
    });
    expect(bench.coordinator.job("job-1").state).toBe("paused");
    expect((await steer("cancel", `"other", ${await tagOf("/api/jobs/job-1")}`)).status).toBe(200);
  });

  test("a quota is set by who has seen it last", async () => {
    const set = (jobs: number, ifMatch?: string) =>
      request("/api/quotas/vision", {
        method: "PUT",
        body: JSON.stringify({ jobs }),
        headers: { authorization: "Bearer token", ...(ifMatch !== undefined && { "if-match": ifMatch }) },
      });
    expect((await set(1)).status).toBe(200);
    const seen = await tagOf("/api/quotas/vision");
    expect((await set(2, seen)).status).toBe(200);
    expect((await set(3, seen)).status).toBe(412);
    expect(bench.coordinator.quota("vision").jobs).toBe(2);
  });

  test("progress does not stand in the way", async () => {
    const worker = await bench.worker(1);
    await bench.clock.advance(1_000);
    await worker.report("ready", { jobId: "job-1" });
    const about = { jobId: "job-1", generation: 1 };
    const seen = await tagOf("/api/jobs/job-1");
    await worker.report("progress", about);
    expect(await tagOf("/api/jobs/job-1")).not.toBe(seen);
    expect((await steer("cancel", seen)).status).toBe(200);
  });

  test("a restart of the coordinator does not, either", async () => {
    const worker = await bench.worker(1);
    await bench.clock.advance(1_000);
    await trainThrough(worker, "job-1");
    const seen = await tagOf("/api/jobs/job-1");
    bench.crash();
    await start();
    expect((await tagOf("/api/jobs/job-1")).split(".")[0]).toBe(seen.split(".")[0]);
  });

  test("what is served is replaced by who has seen it last, also while replicas load", async () => {
    const worker = await bench.worker(1);
    await bench.clock.advance(1_000);
    await trainThrough(worker, "job-1");
    const headers = { authorization: "Bearer token", "content-type": "application/json" };
    const change = (method: string, body: object | undefined, ifMatch: string) =>
      request("/api/deployments/digits", {
        ...{ method, headers: { ...headers, "if-match": ifMatch } },
        ...(body && { body: JSON.stringify(body) }),
      });
    expect((await request("/api/deployments/digits")).status).toBe(404);
    expect((await change("PUT", { version: 1 }, "*")).status).toBe(412);
    await bench.coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 });
    const seen = await tagOf("/api/deployments/digits");
    await bench.settle();
    await worker.loadShards();
    expect(await tagOf("/api/deployments/digits")).not.toBe(seen);
    expect((await change("PUT", { version: 1, shards: 2 }, seen)).status).toBe(200);
    expect((await change("DELETE", undefined, seen)).status).toBe(412);
    expect((await change("DELETE", undefined, await tagOf("/api/deployments/digits"))).status).toBe(200);
    expect(bench.coordinator.deployments()).toEqual([]);
  });

  test("a sweep is cancelled by who has seen it last", async () => {
    const { workers: _, ...job } = spec;
    const search = { method: "grid", space: { "optimizer.learningRate": { values: [0.1, 0.2] } } };
    await bench.coordinator.submitSweep(sweepSpecSchema.parse({ ...job, search }));
    const cancel = (ifMatch: string) =>
      request("/api/sweeps/sweep-1/cancel", {
        ...{ method: "POST", headers: { authorization: "Bearer token", "if-match": ifMatch } },
      });
    expect((await cancel('"other"')).status).toBe(412);
    expect((await cancel(await tagOf("/api/sweeps/sweep-1"))).status).toBe(200);
    expect(bench.coordinator.sweep("sweep-1").state).toBe("cancelled");
  });

  test("any state will do for *, none for a weak or a foreign tag", async () => {
    expect((await steer("pause", "*")).status).toBe(200);
    const tag = await tagOf("/api/jobs/job-1");
    for (const other of [`W/${tag}`, '"other"', '"."', "nonsense", ""])
      expect((await steer("cancel", other)).status).toBe(412);
    expect(
      (
        await request("/api/jobs/job-9/pause", {
          method: "POST",
          headers: { authorization: "Bearer token", "if-match": "*" },
        })
      ).status,
    ).toBe(404);
  });

  test("a route that cannot tell says so instead of going on", async () => {
    const headers = { authorization: "Bearer token", "if-match": '"a"' };
    const answer = await request("/api/jobs", { method: "POST", headers, body: JSON.stringify(spec) });
    expect(problemSchema.parse(await answer.json())).toMatchObject({ code: "REQUEST_INVALID" });
    expect(bench.coordinator.jobs()).toHaveLength(1);
  });
});
