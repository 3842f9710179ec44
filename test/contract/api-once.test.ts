import { beforeEach, describe, expect, test } from "vitest";
import type { HttpListener } from "../../agent/agent.ts";
import { createApi } from "../../coordinator/api/app.ts";
import type { Coordinator } from "../../coordinator/port.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { jobViewSchema, problemSchema } from "../../protocol/messages/api.ts";
import type { Store } from "../../protocol/ports.ts";
import { createApiClient } from "../../scripts/commands/api-client.ts";
import { listenHttp } from "../../scripts/run/http-listener.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { openMemoryStore } from "../simulation/memory-store.ts";

/** Idempotency-Key: what is sent twice happens once, whatever becomes of the coordinator in between. */

const operatorToken = "token";
let bench: CoordinatorBench;
let request: ReturnType<typeof describedApi>;

async function start(store?: Store): Promise<void> {
  const coordinator = await bench.start(store);
  request = describedApi(createApi({ coordinator, operatorToken, addresses: () => [], log: silentLog }));
}

beforeEach(async () => {
  bench = new CoordinatorBench();
  await start();
});

const submit = (key: string | undefined, name = "digits") =>
  request("/api/jobs", {
    method: "POST",
    headers: { authorization: "Bearer token", ...(key !== undefined && { "idempotency-key": key }) },
    body: JSON.stringify(exampleSpec({ name })),
  });
const job = async (response: Promise<Response>) => jobViewSchema.parse(await (await response).json());
const refusal = async (response: Promise<Response>) => problemSchema.parse(await (await response).json());
const jobCount = () => bench.coordinator.jobs().length;

test("the same key and the same body: one job, and the same answer", async () => {
  const first = await submit('"a"');
  expect(first.status).toBe(201);
  const second = await submit("a");
  expect(second.status).toBe(201);
  expect(await second.json()).toEqual(await first.json());
  expect(jobCount()).toBe(1);
  expect((await job(submit("b"))).id).toBe("job-2");
  expect((await job(submit(undefined))).id).toBe("job-3");
});

test("the same key and another body is refused, and nothing happens", async () => {
  await submit("a");
  expect(await refusal(submit("a", "letters"))).toMatchObject({ code: "KEY_REUSED", status: 422 });
  expect(jobCount()).toBe(1);
});

test("while the first is under way the second is told so", async () => {
  const [first, second, other] = await Promise.all([
    submit("a"),
    refusal(submit("a")),
    refusal(submit("a", "b")),
  ]);
  expect(first!.status).toBe(201);
  expect(second).toMatchObject({ code: "KEY_IN_USE", status: 409 });
  expect(other).toMatchObject({ code: "KEY_REUSED" });
  expect(jobCount()).toBe(1);
});

test("a coordinator that dies between decision and answer leaves word for the next one", async () => {
  const store = openMemoryStore(bench.disk);
  const died = Promise.withResolvers<never>();
  bench.crash();
  await start({
    ...store,
    write: async (writes) => {
      await store.write(writes);
      if (writes.some(({ key }) => key.startsWith("job/"))) await died.promise; // durable, and never answered
    },
  });
  void submit("a");
  await bench.settle();
  bench.crash();
  await start();
  expect(jobCount()).toBe(1);
  expect((await job(submit("a"))).id).toBe("job-1");
  expect(await refusal(submit("a", "letters"))).toMatchObject({ code: "KEY_REUSED" });
  expect(jobCount()).toBe(1);
});

test("a client whose coordinator dies before it answers asks again, and gets the one job", async () => {
  const store = openMemoryStore(bench.disk);
  const listening = Promise.withResolvers<HttpListener>();
  const died = Promise.withResolvers<void>();
  bench.crash();
  const dying = await bench.start({
    ...store,
    write: async (writes) => {
      await store.write(writes);
      if (!writes.some(({ key }) => key.startsWith("job/"))) return;
      await (await listening.promise).close();
      died.resolve();
    },
  });
  const serve = (coordinator: Coordinator, port: number) =>
    listenHttp(createApi({ coordinator, operatorToken, addresses: () => [], log: silentLog }), {
      host: "127.0.0.1",
      port,
    });
  const listener = await serve(dying, 0);
  const { port } = listener;
  const { signal } = new AbortController();
  const client = createApiClient({ baseUrl: `http://127.0.0.1:${port}`, operatorToken, signal });
  const submitted = client.submitJob(exampleSpec());
  listening.resolve(listener);
  await died.promise;
  bench.crash();
  const next = await serve(await bench.start(), port);
  expect((await submitted).id).toBe("job-1");
  expect(jobCount()).toBe(1);
  await next.close();
});

const order = (path: string, key: string, body: object = {}) =>
  request(path, {
    ...{ method: "POST", body: JSON.stringify(body) },
    headers: { authorization: "Bearer token", "idempotency-key": key },
  });
const decisionsOf = (kind: string) =>
  bench.coordinator.audit({ after: 0, limit: 1_000 }).entries.filter(({ event }) => event.kind === kind)
    .length;

test("steering has a key too: a pause that comes again after a resume pauses nothing", async () => {
  await submit("a");
  expect(await job(order("/api/jobs/job-1/pause", "p"))).toMatchObject({ state: "paused" });
  await order("/api/jobs/job-1/resume", "r");
  const again = await job(order("/api/jobs/job-1/pause", "p"));
  expect(again).toEqual(bench.coordinator.job("job-1"));
  expect(again.state).not.toBe("paused");
  expect(decisionsOf("job-paused")).toBe(1);
  expect(await refusal(order("/api/jobs/job-1/cancel", "p"))).toMatchObject({ code: "KEY_REUSED" });
});

test("so has a drain, and the removal of a machine, also for the next coordinator", async () => {
  const { peerId } = await bench.worker(1);
  const drained = await order(`/api/peers/${peerId}/drain`, "d");
  expect(drained.status).toBe(200);
  await order(`/api/peers/${peerId}/drain`, "u", { drained: false });
  expect((await order(`/api/peers/${peerId}/drain`, "d")).status).toBe(200);
  expect(decisionsOf("member-drained")).toBe(1);
  await order(`/api/peers/${peerId}/remove`, "r");
  bench.crash();
  await start();
  expect((await order(`/api/peers/${peerId}/remove`, "r")).status).toBe(200);
  expect(decisionsOf("member-removed")).toBe(1);
});

test("what could not be written leaves no key: it happens when it comes again", async () => {
  const store = openMemoryStore(bench.disk);
  let full = true;
  bench.crash();
  await start({
    ...store,
    write: async (writes) => {
      if (full && writes.some(({ key }) => key.startsWith("job/")))
        throw new RingfoldError("STORE_FAILED", "full");
      await store.write(writes);
    },
  });
  expect(await refusal(submit("a"))).toMatchObject({ code: "STORE_FAILED" });
  full = false;
  expect((await job(submit("a"))).id).toBe("job-1");
  expect(jobCount()).toBe(1);
});

test("a refused request leaves no key", async () => {
  const from = JSON.stringify({ ...exampleSpec(), from: "digits@7" });
  const init = { method: "POST", headers: { authorization: "Bearer token", "idempotency-key": "a" } };
  expect(await refusal(request("/api/jobs", { ...init, body: from }))).toMatchObject({ code: "NOT_FOUND" });
  expect((await job(submit("a"))).id).toBe("job-1");
});

describe("what is no key is refused", () => {
  test.each(["", '""', "a b", `"a"b"`, "ä", "x".repeat(256)])("%j", async (key) => {
    expect(await refusal(submit(key))).toMatchObject({ code: "REQUEST_INVALID", status: 400 });
    expect(jobCount()).toBe(0);
  });
});
