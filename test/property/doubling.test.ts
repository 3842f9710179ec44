import fc from "fast-check";
import { expect, test } from "vitest";
import { RingMemory } from "../../agent/ring/memory.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { doublingAllReduceMs, ringAllReduceMs } from "../../protocol/link-model.ts";
import { doublingPartners, doublingRounds } from "../../protocol/recursive-doubling.ts";
import { memoryPairs, memoryRing } from "../simulation/memory-links.ts";
import { never, rankBuffer, type SegmentOptions, testAllReduce } from "./all-reduce.ts";

function pairs(worldSize: number, options: SegmentOptions): Ring[] {
  return memoryPairs(worldSize).map((partners, rank) => new Ring({ rank, worldSize, partners, ...options }));
}

testAllReduce(pairs, { min: 2, max: 17 });

test.each(Array.from({ length: 40 }, (_, i) => i + 1))(
  "in a world of %i every vector counts once",
  (worldSize) => {
    let sums = Array.from({ length: worldSize }, (_, rank) => 1n << BigInt(rank));
    for (const { hops, isComplete } of doublingRounds(worldSize)) {
      const next = [...sums];
      for (const { from, to } of hops) {
        if (!isComplete) expect(sums[to]! & sums[from]!).toBe(0n);
        next[to] = isComplete ? sums[from]! : sums[to]! | sums[from]!;
      }
      sums = next;
    }
    expect(new Set(sums)).toEqual(new Set([(1n << BigInt(worldSize)) - 1n]));
  },
);

test("partners are each other's, and no rank has more of them than there are rounds", () => {
  for (let worldSize = 2; worldSize <= 33; worldSize++) {
    for (let rank = 0; rank < worldSize; rank++) {
      const partners = doublingPartners({ rank, worldSize });
      expect(partners).not.toContain(rank);
      expect(partners.length).toBeLessThanOrEqual(doublingRounds(worldSize).length);
      for (const other of partners) expect(doublingPartners({ rank: other, worldSize })).toContain(rank);
    }
  }
});

test("ranks end with the same bytes even where the order of summation shows, in the ring's memory or not", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 11 }),
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 200 }),
      fc.boolean(),
      async (worldSize, values, inMemory) => {
        const members = memoryPairs(worldSize).map((partners, rank) => {
          const memory = new RingMemory({ elementCount: values.length });
          const buffer = inMemory ? memory.allocate(values.length) : new Float32Array(values.length);
          buffer.set(values.map((value) => value / (rank + 1)));
          const ring = new Ring({ rank, worldSize, partners, segmentBytes: 64, window: 3, memory });
          return { ring, buffer };
        });
        await Promise.all(members.map(({ ring, buffer }) => ring.allReduce(buffer, never)));
        const bytes = members.map(({ buffer }) => Buffer.from(buffer.slice().buffer));
        for (const each of bytes) expect(each).toEqual(bytes[0]);
      },
    ),
  );
});

test("who waits for a rank that says nothing hears of the death of one that comes later", async () => {
  const members = pairs(4, { segmentBytes: 16, window: 2 });
  const waiting = members[2]!.allReduce(rankBuffer(2, 100), never); // for 3, which is stalled; then for 0
  members[0]!.destroy();
  await expect(waiting).rejects.toMatchObject({ code: "RING_BROKEN" });
});

test("a rank that has ended the last operation may leave before the others have", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 9 }), fc.nat(300), async (worldSize, elementCount) => {
      const members = pairs(worldSize, { segmentBytes: 16, window: 2 });
      await Promise.all(
        members.map(async (ring, rank) => {
          await ring.allReduce(rankBuffer(rank, elementCount), never);
          ring.destroy();
        }),
      );
    }),
  );
});

test("ranks that disagree about the length, or about the way, never sum", async () => {
  const members = pairs(4, { segmentBytes: 64, window: 2 });
  const lengths = await Promise.allSettled(
    members.map((ring, rank) => ring.allReduce(rankBuffer(rank, rank === 1 ? 100 : 99), never)),
  );
  expect(lengths.every(({ status }) => status === "rejected")).toBe(true);

  const [one, other] = memoryRing(2);
  const ways = await Promise.allSettled([
    new Ring({ rank: 0, worldSize: 2, links: one! }).allReduce(rankBuffer(0, 99), never),
    new Ring({ rank: 1, worldSize: 2, partners: new Map([[0, other!]]) }).allReduce(rankBuffer(1, 99), never),
  ]);
  expect(ways.every(({ status }) => status === "rejected")).toBe(true);
});

test("an aborted operation ends at once", async () => {
  const [ring] = pairs(2, { segmentBytes: 64, window: 2 });
  const controller = new AbortController();
  const outcome = ring!.allReduce(rankBuffer(0, 100), controller.signal);
  controller.abort();
  await expect(outcome).rejects.toMatchObject({ code: "CANCELLED" });
});

test("the model prefers doubling where latency counts, and the ring where bytes do", () => {
  const link = { latencyMs: 5, bytesPerSecond: 50e6 };
  const doublingMs = (bytes: number) => doublingAllReduceMs(() => link, { worldSize: 4, bytes });
  const ringMs = (bytes: number) => ringAllReduceMs([link, link, link, link], bytes);
  expect(doublingMs(64_000)).toBeCloseTo(2 * (5 + 1.28));
  expect(doublingMs(64_000)).toBeLessThan(ringMs(64_000));
  expect(doublingMs(64e6)).toBeGreaterThan(ringMs(64e6));
});
