import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import type { Coordinator } from "../../coordinator/port.ts";
import { clusterViewSchema } from "../../protocol/messages/api.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

const spec = exampleSpec();
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

async function nextView() {
  const { value } = await reader.read();
  const [, event, data] = /^event: (\w+)\ndata: (.*)\n\n$/.exec(new TextDecoder().decode(value))!;
  expect(event).toBe("cluster");
  return clusterViewSchema.parse(JSON.parse(data!));
}

test("begins with the whole cluster, and brings it again after changes", async () => {
  const response = await openStream();
  expect(response.headers.get("content-type")).toMatch(/^text\/event-stream/);
  expect((await nextView()).jobs).toEqual([]);
  await coordinator.submitJob(spec);
  await coordinator.submitJob(spec);
  const next = nextView();
  await bench.clock.advance(250);
  expect((await next).jobs.map(({ id }) => id)).toEqual(["job-1", "job-2"]);
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

test("a reader that goes away leaves nothing behind", async () => {
  await openStream();
  await nextView();
  expect(subscribed.size).toBe(1);
  await reader.cancel();
  await bench.settle();
  expect(subscribed.size).toBe(0);
});
