import { expect, test } from "vitest";
import { PlacementTable } from "../../../agent/serving/placement-table.ts";
import type { PredictRequest } from "../../../agent/serving/predictor.ts";
import { ServedCounter } from "../../../agent/serving/served-counter.ts";
import { TrafficSplit } from "../../../agent/serving/traffic-split.ts";
import { type ErrorCode, RingfoldError } from "../../../protocol/errors.ts";
import { latencyCount } from "../../../protocol/latency-histogram.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Placement } from "../../../protocol/messages/serving.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const manifest = manifestOf([4]);
const placed = { manifest, cuts: [1], replicas: [[memoryPeerId(1)]] };
const live = placementOf({ ...placed, version: 1, deployment: 11 });
const candidate = (weight: number, changes: Partial<Placement> = {}): Placement => ({
  ...placementOf({ ...placed, version: 2, deployment: 12, live: false }),
  ...{ weight, ...changes },
});
const output = { shape: [1, 4], data: new Float32Array(4) };
const input = output;
const request = { name: "digits", input };
const never = new AbortController().signal;

/** What each version does with a request: an error, or how long it takes. */
type Behaviour = ErrorCode | number;

function open(placements: Placement[], behaviours: Readonly<Record<number, Behaviour>> = {}) {
  const clock = new FakeClock();
  const table = new PlacementTable();
  table.apply({ term: 1, revision: 1, placements });
  const counter = new ServedCounter(table);
  const asked: PredictRequest[] = [];
  let drawn = 0;
  const predictor = {
    predict: async (one: PredictRequest) => {
      asked.push(one);
      const version = one.version ?? 1;
      const behaviour = behaviours[version] ?? 5;
      if (typeof behaviour === "string") throw new RingfoldError(behaviour, "as told");
      clock.stall(behaviour);
      return { name: one.name, version, output, hops: [] };
    },
  };
  /** 0.00, 0.01, 0.02 and so on. */
  const random = () => (drawn++ % 100) / 100;
  const split = new TrafficSplit({ predictor, table, counter, clock, log: silentLog, random });
  const ask = async (count: number, changes: Partial<PredictRequest> = {}) => {
    const versions: number[] = [];
    for (let i = 0; i < count; i++)
      versions.push((await split.predict({ ...request, ...changes }, never)).version);
    return {
      old: versions.filter((one) => one === 1).length,
      fresh: versions.filter((one) => one === 2).length,
    };
  };
  const told = (deployment: number) => counter.told().find((one) => one.deployment === deployment);
  return { split, table, counter, asked, ask, told, clock };
}

test.each([0, 1, 25, 100])("%i% of the requests go to the candidate", async (weight) => {
  const { ask } = open([live, candidate(weight)]);
  expect(await ask(100)).toEqual({ old: 100 - weight, fresh: weight });
});

test("a request goes by its id to the same side always, and stays with the candidate as its weight grows", async () => {
  const ids = Array.from({ length: 2_000 }, (_, i) => `request-${i}`);
  const freshAt = async (weight: number) => {
    const { split } = open([live, candidate(weight)]);
    const replies = await Promise.all(ids.map((id) => split.predict({ ...request, id }, never)));
    return new Set(ids.filter((_, i) => replies[i]!.version === 2));
  };
  const [few, again, many] = [await freshAt(5), await freshAt(5), await freshAt(50)];
  expect(again).toEqual(few);
  expect([...few].every((id) => many.has(id))).toBe(true);
  expect([few.size, many.size]).toEqual([106, 992]);
});

test("what the candidate does not answer, the live version does; both are counted", async () => {
  const { ask, told } = open([live, candidate(100)], { 2: "NOT_FINITE" });
  expect(await ask(10)).toEqual({ old: 10, fresh: 0 });
  expect(told(12)).toMatchObject({ requests: 10, errors: { NOT_FINITE: 10 } });
  expect(told(11)).toMatchObject({ requests: 10, errors: {} });
});

test("a candidate gets half of the time, and the live version what is left", async () => {
  const { asked, split } = open([live, candidate(100)], { 2: "REQUEST_TIMEOUT" });
  await split.predict(request, never);
  expect(asked.map(({ version, timeoutMs }) => [version, timeoutMs])).toEqual([
    [2, limits.predictTimeoutMs / 2],
    [1, limits.predictTimeoutMs],
  ]);
});

test("a candidate that lacks a shard is not asked, and that is no error of it", async () => {
  const { ask, told } = open([
    live,
    candidate(100, { shards: [{ shardIndex: 0, fromLayer: 0, toLayer: 1, replicas: [] }] }),
  ]);
  expect(await ask(10)).toEqual({ old: 10, fresh: 0 });
  expect(told(12)).toMatchObject({ requests: 0, errors: {} });
});

test.each<[ErrorCode]>([["REQUEST_INVALID"], ["PAYLOAD_TOO_LARGE"], ["CANCELLED"]])(
  "what the caller got wrong is counted against nobody: %s",
  async (code) => {
    const { split, told } = open([live, candidate(50)], { 1: code, 2: code });
    await expect(split.predict(request, never)).rejects.toMatchObject({ code });
    expect(told(12)).toMatchObject({ requests: 0 });
    expect(told(11)).toMatchObject({ requests: 0 });
  },
);

test("a caller who hangs up is not answered by another version, and counts for nothing", async () => {
  const { split, told, asked } = open([live, candidate(100)], { 2: "REQUEST_TIMEOUT" });
  await expect(split.predict(request, AbortSignal.abort())).rejects.toMatchObject({
    code: "REQUEST_TIMEOUT",
  });
  expect([asked.length, told(12)!.requests]).toEqual([1, 0]);
});

test("a request that names its version gets that one, and is not counted", async () => {
  const { ask, told } = open([live, candidate(50)]);
  expect(await ask(10, { version: 2 })).toEqual({ old: 0, fresh: 10 });
  expect(await ask(10, { version: 1 })).toEqual({ old: 10, fresh: 0 });
  expect([told(11)!.requests, told(12)!.requests]).toEqual([0, 0]);
});

test("sums only grow while a table names the deployment, and nothing is told without a rollout", async () => {
  const { ask, table, counter, told } = open([live], { 1: 3 });
  await ask(7);
  expect(counter.told()).toEqual([]);
  table.apply({ term: 1, revision: 2, placements: [live, candidate(50)] });
  expect(told(11)).toMatchObject({ requests: 7, errors: {} });
  expect(latencyCount(told(11)!.latency)).toBe(7);
  const promoted = placementOf({ ...placed, version: 2, deployment: 12 });
  table.apply({ term: 1, revision: 3, placements: [promoted] });
  expect(counter.told()).toEqual([]);
  table.apply({ term: 1, revision: 4, placements: [live, candidate(50)] });
  expect(told(11)).toMatchObject({ requests: 0 });
});

test("more rollouts than a beat holds are told by turns, in so many beats as it takes", () => {
  const names = Array.from({ length: 20 }, (_, i) => `model-${i}`);
  const placements = names.flatMap((name, i) => [
    { ...live, name, deployment: 2 * i + 1 },
    candidate(5, { name, deployment: 2 * i + 2 }),
  ]);
  const { counter } = open(placements);
  const beats = [counter.told(), counter.told(), counter.told()];
  expect(beats.map((told) => told.length)).toEqual([16, 16, 16]);
  expect(new Set(beats.flat().map(({ deployment }) => deployment)).size).toBe(40);
});
