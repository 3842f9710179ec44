import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { readEventStream } from "../../scripts/commands/follow/event-stream.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** Lists that are watched: `Accept: text/event-stream`. */

let bench: CoordinatorBench;
let app: ReturnType<typeof createApi>;
async function start(): Promise<void> {
  const coordinator = await bench.start();
  app = createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog });
}
beforeEach(async () => {
  bench = new CoordinatorBench();
  await start();
});

const submit = (name = "digits") => bench.coordinator.submitJob(exampleSpec({ name }));
/** Changes are told at most four times a second. */
const told = () => bench.clock.advance(250);

interface Data {
  readonly items: readonly { readonly id: string }[];
  readonly put: readonly { readonly id: string; readonly sequence: number }[];
  readonly removed: readonly string[];
}

async function watch(path: string, lastEventId?: string) {
  const headers = {
    accept: "text/event-stream",
    ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
  };
  const response = await app.request(path, { headers });
  const events = readEventStream(response.body!);
  return {
    response,
    async next() {
      const { value, done } = await events.next();
      if (done) return undefined;
      return { event: value.event, id: value.id, data: JSON.parse(value.data) as Data };
    },
    leave: () => events.return(undefined),
  };
}
const ids = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);

test("a snapshot first, then what changes", async () => {
  await submit();
  const jobs = await watch("/api/jobs");
  expect(jobs.response.headers.get("content-type")).toMatch(/^text\/event-stream/);
  const first = (await jobs.next())!;
  expect(first.event).toBe("snapshot");
  expect(ids(first.data.items)).toEqual(["job-1"]);
  await submit();
  await bench.coordinator.steerJob("job-1", "pause");
  await told();
  const second = (await jobs.next())!;
  expect(second.event).toBe("change");
  expect(second.data).toMatchObject({
    put: [{ id: "job-1", state: "paused" }, { id: "job-2" }],
    removed: [],
  });
  expect(second.id).not.toBe(first.id);
  await jobs.leave();
});

test("what leaves the list is told by its key", async () => {
  const worker = await bench.worker(1);
  const peers = await watch("/api/peers?state=alive");
  expect((await peers.next())!.data.items).toMatchObject([{ peerId: worker.peerId }]);
  worker.crash();
  await told();
  expect(await peers.next()).toMatchObject({ event: "change", data: { put: [], removed: [worker.peerId] } });
  await peers.leave();
});

test("what time alone changes is told: an agent falls silent, and nothing else happens", async () => {
  const worker = await bench.worker(1);
  const peers = await watch("/api/peers?state=alive");
  await peers.next();
  await bench.clock.advance(10_000);
  await told();
  expect(await peers.next()).toMatchObject({ event: "change", data: { put: [], removed: [worker.peerId] } });
  await peers.leave();
});

test("what a filter does not let through is not told of, gone or not", async () => {
  const jobs = await watch("/api/jobs?name=a");
  expect((await jobs.next())!.data.items).toEqual([]);
  await submit("b");
  await told();
  await submit("a");
  await told();
  expect(await jobs.next()).toMatchObject({ event: "change", data: { put: [{ id: "job-2" }], removed: [] } });
  await jobs.leave();
});

test("who comes back with the last id gets what has changed since, even what nobody watched", async () => {
  await submit();
  await submit();
  const first = await watch("/api/jobs");
  const { id } = (await first.next())!;
  await first.leave();
  await bench.coordinator.steerJob("job-2", "cancel");
  await submit();
  await told();
  const again = await watch("/api/jobs", id);
  const event = (await again.next())!;
  expect(event.event).toBe("change");
  expect(ids(event.data.put)).toEqual(["job-2", "job-3"]);
  await again.leave();
});

test.each(["", "nonsense", "1.999", "99.0", "-1.2"])(
  "an id that says nothing (%j) brings a snapshot",
  async (id) => {
    await submit();
    const jobs = await watch("/api/jobs", id);
    expect((await jobs.next())!.event).toBe("snapshot");
    await jobs.leave();
  },
);

test("another coordinator begins with a snapshot", async () => {
  await submit();
  const first = await watch("/api/jobs");
  const { id } = (await first.next())!;
  bench.crash();
  await start();
  const again = await watch("/api/jobs", id);
  expect((await again.next())!.event).toBe("snapshot");
  await again.leave();
  await first.leave();
});

test("a slow watcher finds one change, not a queue of them", async () => {
  const jobs = await watch("/api/jobs");
  await jobs.next();
  for (let i = 0; i < 50; i++) {
    await submit();
    await told();
  }
  const seen: number[] = [];
  for (let count = 0; count < 50; seen.push(count)) count += (await jobs.next())!.data.put.length;
  expect(seen.length).toBeLessThanOrEqual(4);
  await jobs.leave();
});

test("decisions are told each once, from the first or from the last one that was read", async () => {
  await submit();
  const log = await watch("/api/audit");
  const first = (await log.next())!;
  const last = first.data.put.at(-1)!.sequence;
  expect(first.data.put.map(({ sequence }) => sequence)).toEqual(
    Array.from({ length: last }, (_, i) => i + 1),
  );
  expect(first.id).toBe(String(last));
  await log.leave();
  await submit();
  const again = await watch("/api/audit?job=job-2", first.id);
  const later = (await again.next())!;
  expect(later.data.put[0]!.sequence).toBeGreaterThan(last);
  expect(later.data.put).toMatchObject([{ event: { jobId: "job-2" } }, {}].slice(0, later.data.put.length));
  await again.leave();
});

test("streams end when the coordinator closes", async () => {
  const all = [await watch("/api/jobs"), await watch("/api/audit"), await watch("/api/events")];
  for (const { next } of all) await next();
  await bench.coordinator.close();
  for (const { next } of all) expect(await next()).toBeUndefined();
});

test("a stream that fails says so, ends and is logged", async () => {
  const errors: object[] = [];
  const broken = (): never => {
    throw new RingfoldError("STORE_FAILED", "decision 1 is missing from the log");
  };
  app = createApi({
    coordinator: { ...bench.coordinator, audit: broken },
    ...{ operatorToken: "token", addresses: () => [] },
    log: { ...silentLog, error: (fields) => errors.push(fields) },
  });
  const response = await app.request("/api/audit", { headers: { accept: "text/event-stream" } });
  expect(await response.text()).toBe("event: error\ndata: decision 1 is missing from the log\n\n");
  expect(errors).toMatchObject([{ err: { code: "STORE_FAILED" }, path: "/api/audit" }]);
});

test("so many streams and no more; who leaves makes room", async () => {
  const all = await Promise.all(Array.from({ length: limits.eventStreamsMax }, () => watch("/api/jobs")));
  for (const { next } of all) await next();
  expect((await app.request("/api/events")).status).toBe(429);
  await all[0]!.leave();
  await bench.settle();
  const one = await watch("/api/jobs");
  expect(one.response.status).toBe(200);
  for (const { leave } of [...all, one]) await leave();
});
