import { beforeEach, expect, test, vi } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import type { Coordinator } from "../../coordinator/port.ts";
import { type ClusterView, clusterViewSchema } from "../../protocol/messages/api.ts";
import {
  applyClusterChange,
  type ClusterChange,
  clusterChangeSchema,
  clusterKeys,
} from "../../protocol/messages/cluster-change.ts";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";
import { CoordinatorBench, trainThrough } from "../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

const spec = exampleSpec();
const grid = { method: "grid", space: { seed: { values: [1, 2] } } };
let bench: CoordinatorBench;
let coordinator: Coordinator;

beforeEach(async () => {
  bench = new CoordinatorBench();
  coordinator = await bench.start();
});

const subscribed = new Set<() => void>();
let reader: ReadableStreamDefaultReader<Uint8Array>;

/** Opens the stream over a coordinator whose listeners are counted. */
async function openStream(): Promise<Response> {
  const counted: Coordinator = {
    ...coordinator,
    onChange: (listener) => {
      subscribed.add(listener);
      const stop = coordinator.onChange(listener);
      return () => {
        subscribed.delete(listener);
        stop();
      };
    },
  };
  const api = createApi({
    coordinator: counted,
    operatorToken: "token",
    addresses: () => [],
    log: silentLog,
  });
  const response = await api.request("/api/events");
  reader = response.body!.getReader();
  return response;
}

/** Of the events so far; and of the last one its kind and size. */
let view: ClusterView;
let last: { readonly kind: string; readonly bytes: number; readonly change: ClusterChange | undefined };

async function nextView(): Promise<ClusterView> {
  const { value } = await reader.read();
  const [, kind, data] = /^event: (\w+)\ndata: (.*)\n\n$/.exec(new TextDecoder().decode(value))!;
  const change = kind === "change" ? clusterChangeSchema.parse(JSON.parse(data!)) : undefined;
  view = change ? applyClusterChange(view, change) : clusterViewSchema.parse(JSON.parse(data!));
  last = { kind: kind!, bytes: data!.length, change };
  return view;
}

test("begins with the whole cluster, and then brings what has changed", async () => {
  const response = await openStream();
  expect(response.headers.get("content-type")).toMatch(/^text\/event-stream/);
  expect((await nextView()).jobs).toEqual([]);
  expect(last.kind).toBe("cluster");
  await coordinator.submitJob(spec);
  await coordinator.submitJob(spec);
  let next = nextView();
  await bench.clock.advance(250);
  expect((await next).jobs.map(({ id }) => id)).toEqual(["job-1", "job-2"]);
  expect(last.kind).toBe("change");
  await coordinator.steerJob("job-2", "cancel");
  next = nextView();
  await bench.clock.advance(250);
  expect((await next).jobs[1]).toMatchObject({ id: "job-2", state: "cancelled" });
  expect(last.change!.jobs!.put.map(({ id }) => id)).toEqual(["job-2"]);
  expect(last.change!.peers).toBeUndefined();
  await reader.cancel();
});

test("a reader that is slow finds one view, the newest, and not a queue of old ones", async () => {
  await openStream();
  await nextView();
  for (let i = 0; i < 5; i++) {
    await coordinator.submitJob(spec);
    await bench.clock.advance(250);
  }
  const seen: number[] = [];
  while (seen.at(-1) !== 5) seen.push((await nextView()).jobs.length);
  expect(seen.length).toBeLessThanOrEqual(3);
  await reader.cancel();
});

test("whatever happens, who has followed the changes sees what somebody sees who comes now", async () => {
  const worker = await bench.worker(1);
  const alone = { ...spec, workers: { min: 1, max: 1, spares: 0 } };
  await openStream();
  await nextView();
  const steps: (() => Promise<unknown>)[] = [
    () => coordinator.submitJob(alone),
    () => trainThrough(worker, "job-1"),
    () => coordinator.moveAlias("digits", "champion", { version: 1 }),
    () => bench.worker(2),
    () => coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 }),
    () => worker.loadShards(),
    () => coordinator.submitSweep(sweepSpecSchema.parse({ ...spec, search: grid })),
    () => coordinator.removeDeployment("digits"),
    () => coordinator.removeAlias("digits", "champion"),
    () => coordinator.removeVersion("digits", 1),
    async () => worker.crash(),
  ];
  for (const step of steps) {
    const next = nextView();
    await step();
    await bench.clock.advance(250);
    await next;
    const now = clusterViewSchema.parse(JSON.parse(JSON.stringify(coordinator.view())));
    for (const list of Object.keys(clusterKeys) as (keyof typeof clusterKeys)[])
      expect(new Set<unknown>(view[list]), list).toEqual(new Set<unknown>(now[list]));
    expect(view.events).toEqual(now.events);
  }
  await reader.cancel();
});

test("when nothing happens it says so in some bytes, however much there is", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    for (let i = 0; i < 50; i++) await coordinator.submitJob(spec);
    await bench.clock.advance(1_000);
    await openStream();
    await nextView();
    expect(last.bytes).toBeGreaterThan(10_000);
    const next = nextView();
    await vi.advanceTimersByTimeAsync(5_000);
    await next;
    expect(last).toMatchObject({ kind: "change", change: { events: [] } });
    expect(last.bytes).toBeLessThan(100);
    await reader.cancel();
  } finally {
    vi.useRealTimers();
  }
});

test("a reader that goes away leaves nothing behind", async () => {
  await openStream();
  await nextView();
  expect(subscribed.size).toBe(1);
  await reader.cancel();
  await bench.settle();
  expect(subscribed.size).toBe(0);
});
