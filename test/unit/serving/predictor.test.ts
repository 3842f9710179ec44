import { describe, expect, test } from "vitest";
import { PlacementTable } from "../../../agent/serving/placement-table.ts";
import { Predictor } from "../../../agent/serving/predictor.ts";
import { Router } from "../../../agent/serving/router.ts";
import { fromWire, toWire } from "../../../agent/serving/wire-tensor.ts";
import { type ErrorCode, RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { inferShard, type Placement } from "../../../protocol/messages/serving.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";
import { MemoryCluster, memoryPeerId } from "../../simulation/memory-network.ts";

const [self, a, b, c, d] = [0, 1, 2, 3, 4].map(memoryPeerId) as [string, string, string, string, string];
/** Two layers of four: each shard of these tests adds one to every number. */
const manifest = manifestOf([4, 4]);
const input = { shape: [1, 4], data: Float32Array.of(1, 2, 3, 4) };
const request = { name: "digits", input };
const never = new AbortController().signal;

type Behaviour = ErrorCode | "hang" | "wrong shape" | "not a number" | "answer";

/** An agent that hosts nothing, in a cluster whose peers behave as told; `asked` lists who was asked, in order. */
function openCluster(placement: Placement, behaviours: Readonly<Record<string, Behaviour>> = {}) {
  const clock = new FakeClock();
  const cluster = new MemoryCluster(clock);
  const network = cluster.open(self);
  const asked: string[] = [];
  for (const peerId of [a, b, c, d]) {
    cluster.open(peerId).handle(inferShard, async ({ input: wire }, { signal }) => {
      asked.push(peerId);
      const behaviour = behaviours[peerId] ?? "answer";
      if (behaviour === "hang") await new Promise((resolve) => signal.addEventListener("abort", resolve));
      else if (behaviour === "wrong shape") {
        return { output: toWire({ shape: [1, 3], data: new Float32Array(3) }), computeMs: 1 };
      } else if (behaviour === "not a number") {
        return {
          output: toWire({ shape: [1, 4], data: Float32Array.of(1, 2, Number.NaN, 4) }),
          computeMs: 1,
        };
      } else if (behaviour !== "answer") throw new RingfoldError(behaviour, "as told");
      const { shape, data } = fromWire(wire);
      return { output: toWire({ shape, data: data.map((value) => value + 1) }), computeMs: 1 };
    });
  }
  const table = new PlacementTable();
  table.apply({ term: 1, revision: 1, placements: [placement] });
  const host = {
    has: () => false,
    infer: async () => {
      throw new RingfoldError("NOT_FOUND", "nothing is loaded here");
    },
  };
  const router = new Router({ self }, { clock });
  const predictor = new Predictor({ network, host, table, router, clock, log: silentLog });
  return { clock, cluster, predictor, table, asked };
}

const twoShards = placementOf({
  manifest,
  cuts: [1, 2],
  replicas: [
    [a, b],
    [c, d],
  ],
});

describe("a prediction", () => {
  test("passes each shard once, in order", async () => {
    const { predictor, asked, clock } = openCluster(twoShards);
    const { output, hops, version } = await predictor.predict(request, never);
    expect([...output.data]).toEqual([3, 4, 5, 6]);
    expect(version).toBe(1);
    expect(hops.map(({ shardIndex, attempts }) => [shardIndex, attempts])).toEqual([
      [0, 1],
      [1, 1],
    ]);
    expect(asked).toEqual([a, c]);
    expect(clock.pendingTimers).toBe(0);
  });

  test.each<[Behaviour]>([
    ["NOT_FOUND"],
    ["OVERLOADED"],
    ["ENGINE_UNAVAILABLE"],
    ["INTERNAL"],
    ["CANCELLED"],
    ["wrong shape"],
  ])("retries only the failed hop when a replica answers %s", async (behaviour) => {
    const { predictor, asked } = openCluster(twoShards, { [c]: behaviour });
    const { output, hops } = await predictor.predict(request, never);
    expect([...output.data]).toEqual([3, 4, 5, 6]);
    expect(asked).toEqual([a, c, d]);
    expect(hops[1]).toMatchObject({ peerId: d, attempts: 2 });
  });

  test("goes on when a replica dies while it computes, without waiting", async () => {
    const { predictor, cluster, asked, clock } = openCluster(twoShards, { [c]: "hang" });
    const reply = predictor.predict(request, never);
    await settle();
    expect(asked).toEqual([a, c]);
    const beforeMs = clock.nowMs();
    cluster.crash(c);
    expect((await reply).hops[1]?.peerId).toBe(d);
    expect(clock.nowMs()).toBe(beforeMs);
  });

  test("leaves a hanging replica in time for another one", async () => {
    const { predictor, clock } = openCluster(twoShards, { [c]: "hang" });
    const reply = predictor.predict(request, never);
    await clock.advance(limits.predictTimeoutMs / 2);
    expect((await reply).hops[1]).toMatchObject({ peerId: d, attempts: 2 });
    expect(clock.pendingTimers).toBe(0);
  });

  test("uses replicas of a newer table when those it knew are gone", async () => {
    const placement = placementOf({ manifest, cuts: [1, 2], replicas: [[a], [c]] });
    const { predictor, table, cluster } = openCluster(placement, { [c]: "hang" });
    const reply = predictor.predict(request, never);
    await settle();
    table.apply({
      term: 1,
      revision: 2,
      placements: [placementOf({ manifest, cuts: [1, 2], replicas: [[a], [d]] })],
    });
    cluster.crash(c);
    expect((await reply).hops[1]?.peerId).toBe(d);
  });

  test.each([
    ["is still loading", "answer", false],
    ["has come back without it", "NOT_FOUND", true],
  ] as const)(
    "waits for the table that says it is there, when the only replica %s",
    async (_, first, ready) => {
      const behaviours: Record<string, Behaviour> = { [c]: first };
      const place = (isReady: boolean): Placement => {
        const placement = placementOf({ manifest, cuts: [1, 2], replicas: [[a], [c]] });
        placement.shards[1]!.replicas[0]!.ready = isReady;
        return placement;
      };
      const { predictor, table, clock } = openCluster(place(ready), behaviours);
      const reply = predictor.predict(request, never);
      await settle();
      await clock.advance(limits.placementGraceMs / 2);
      behaviours[c] = "answer";
      table.apply({ term: 1, revision: 2, placements: [place(true)] });
      expect((await reply).hops[1]?.peerId).toBe(c);
    },
  );

  test("never mixes two cuts of a model", async () => {
    const wide = manifestOf([4, 4, 4]);
    const { predictor, table, cluster } = openCluster(
      placementOf({ manifest: wide, cuts: [1, 3], replicas: [[a], [c]] }),
      { [c]: "hang" },
    );
    const reply = predictor.predict(request, never);
    const refused = expect(reply).rejects.toMatchObject({ code: "NO_REPLICA" });
    await settle();
    table.apply({
      term: 1,
      revision: 2,
      placements: [placementOf({ manifest: wide, cuts: [2, 3], replicas: [[a], [d]], deployment: 2 })],
    });
    cluster.crash(c);
    await refused;
  });
});

describe("a prediction that cannot be made", () => {
  test("for an unknown model or version", async () => {
    const { predictor } = openCluster(twoShards);
    await expect(predictor.predict({ name: "letters", input }, never)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: "model letters is not deployed",
    });
    await expect(predictor.predict({ ...request, version: 2 }, never)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: "no version 2 of digits: digits serves version 1",
    });
  });

  test.each([[[4]], [[1, 5]], [[0, 4]], [[1, 2, 2]], [[]]])("with an input of shape %j", async (shape) => {
    const { predictor, asked } = openCluster(twoShards);
    const length = shape.reduce((product, size) => product * size, 1);
    await expect(
      predictor.predict({ name: "digits", input: { shape, data: new Float32Array(length) } }, never),
    ).rejects.toMatchObject({ code: "REQUEST_INVALID", data: { field: "shape" } });
    expect(asked).toEqual([]);
  });

  test("with a batch whose tensors do not fit between shards", async () => {
    const wide = manifestOf([1_000_000, 4]);
    const { predictor } = openCluster(placementOf({ manifest: wide, cuts: [1, 2], replicas: [[a], [b]] }));
    await expect(
      predictor.predict({ name: "digits", input: { shape: [5, 4], data: new Float32Array(20) } }, never),
    ).rejects.toMatchObject({ code: "PAYLOAD_TOO_LARGE", data: { batchMax: 4 } });
  });

  test("whose answer has no finite number: JSON has no word for it", async () => {
    const { predictor } = openCluster(twoShards, { [c]: "not a number" });
    await expect(predictor.predict(request, never)).rejects.toMatchObject({ code: "NOT_FINITE" });
  });

  test("says which shard has no replica", async () => {
    const { predictor } = openCluster(placementOf({ manifest, cuts: [1, 2], replicas: [[a], []] }));
    await expect(predictor.predict(request, never)).rejects.toMatchObject({
      code: "NO_REPLICA",
      message: "digits@1: no ready replica of shard 1 of 2",
      data: { missing: ["1"] },
    });
  });

  test("says what each replica answered when none is left", async () => {
    const { predictor, asked, clock } = openCluster(twoShards, { [a]: "INTERNAL", [b]: "NOT_FOUND" });
    const refused = expect(predictor.predict(request, never)).rejects.toMatchObject({
      code: "NO_REPLICA",
      data: { tried: [`${a}: INTERNAL`, `${b}: NOT_FOUND`] },
    });
    await settle();
    await clock.advance(limits.placementGraceMs);
    await refused;
    expect(asked).toEqual([a, b]);
  });

  test("is OVERLOADED, not broken, when every replica is", async () => {
    const { predictor } = openCluster(twoShards, { [a]: "OVERLOADED", [b]: "OVERLOADED" });
    await expect(predictor.predict(request, never)).rejects.toMatchObject({ code: "OVERLOADED" });
  });

  test("is not tried elsewhere when the request itself is at fault", async () => {
    const { predictor, asked } = openCluster(twoShards, { [a]: "REQUEST_INVALID" });
    await expect(predictor.predict(request, never)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    expect(asked).toEqual([a]);
  });

  test("asks at most hopAttemptsMax replicas of a shard", async () => {
    const many = Array.from({ length: limits.hopAttemptsMax + 2 }, (_, index) => memoryPeerId(index + 10));
    const { predictor } = openCluster(placementOf({ manifest, cuts: [2], replicas: [many] }));
    await expect(predictor.predict(request, never)).rejects.toSatisfy(
      (error: RingfoldError) => (error.data.tried as string[]).length === limits.hopAttemptsMax,
    );
  });

  test("ends at its deadline when every replica hangs", async () => {
    const { predictor, clock } = openCluster(twoShards, { [a]: "hang", [b]: "hang" });
    const refused = expect(predictor.predict(request, never)).rejects.toMatchObject({
      code: "REQUEST_TIMEOUT",
    });
    await clock.advance(limits.predictTimeoutMs);
    await refused;
    expect(clock.pendingTimers).toBe(0);
  });

  test("ends at once when the caller leaves", async () => {
    const { predictor, clock } = openCluster(twoShards, { [a]: "hang" });
    const caller = new AbortController();
    const refused = expect(predictor.predict(request, caller.signal)).rejects.toMatchObject({
      code: "CANCELLED",
    });
    await settle();
    caller.abort();
    await refused;
    expect(clock.pendingTimers).toBe(0);
  });
});
