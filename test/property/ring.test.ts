import fc from "fast-check";
import { expect, test } from "vitest";
import { chunkRange } from "../../agent/ring/chunks.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { memoryRing } from "../simulation/memory-links.ts";

const never = new AbortController().signal;

/** Integers below 2^20 add exactly in f32, so the expected sum is exact in any order. */
const rankBuffer = (rank: number, elementCount: number): Float32Array =>
  Float32Array.from({ length: elementCount }, (_, i) => ((i * 31 + rank * 17) % 1_000) - 500);

function rings(worldSize: number, options: { segmentBytes: number; window: number }): Ring[] {
  if (worldSize === 1) return [new Ring({ rank: 0, worldSize })];
  return memoryRing(worldSize).map((links, rank) => new Ring({ rank, worldSize, links, ...options }));
}

test("chunks cover a buffer exactly once", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.integer({ min: 1, max: 64 }), (elementCount, worldSize) => {
      let next = 0;
      for (let chunkIndex = 0; chunkIndex < worldSize; chunkIndex++) {
        const { start, end } = chunkRange({ elementCount, worldSize, chunkIndex });
        expect(start).toBe(next);
        next = end;
      }
      expect(next).toBe(elementCount);
    }),
  );
});

test("all-reduce sums on every rank, for any world, length, segment and window, operation after operation", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 16 }),
      fc.array(fc.nat(600), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 2, max: 6 }),
      async (worldSize, lengths, segmentElements, window) => {
        const members = rings(worldSize, { segmentBytes: 4 * segmentElements, window });
        for (const elementCount of lengths) {
          const buffers = members.map((_, rank) => rankBuffer(rank, elementCount));
          const expected = Float32Array.from({ length: elementCount }, (_, i) =>
            buffers.reduce((sum, buffer) => sum + buffer[i]!, 0),
          );
          await Promise.all(members.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
          for (const buffer of buffers) expect(buffer).toEqual(expected);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("ranks end with the same bytes even where the order of summation shows", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 6 }),
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1, maxLength: 200 }),
      async (worldSize, values) => {
        const members = rings(worldSize, { segmentBytes: 64, window: 3 });
        const buffers = members.map((_, rank) => Float32Array.from(values, (value) => value / (rank + 1)));
        await Promise.all(members.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
        for (const buffer of buffers)
          expect(Buffer.from(buffer.buffer)).toEqual(Buffer.from(buffers[0]!.buffer));
      },
    ),
  );
});

test("when one rank dies in the middle, every other rank's operation fails", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 8 }), fc.nat(7), async (worldSize, dying) => {
      const members = rings(worldSize, { segmentBytes: 16, window: 2 });
      const dead = dying % worldSize;
      const outcomes = members.map((ring, rank) =>
        rank === dead ? Promise.resolve() : ring.allReduce(rankBuffer(rank, 100), never),
      );
      members[dead]!.destroy();
      const settled = await Promise.allSettled(outcomes);
      settled.forEach((outcome, rank) => {
        if (rank !== dead)
          expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
      });
    }),
  );
});

test("ranks that disagree about the length never sum", async () => {
  const members = rings(3, { segmentBytes: 64, window: 2 });
  const outcomes = await Promise.allSettled(
    members.map((ring, rank) => ring.allReduce(rankBuffer(rank, rank === 1 ? 100 : 99), never)),
  );
  expect(outcomes.every(({ status }) => status === "rejected")).toBe(true);
});

test("an aborted operation ends at once", async () => {
  const [ring] = rings(2, { segmentBytes: 64, window: 2 });
  const controller = new AbortController();
  const outcome = ring!.allReduce(rankBuffer(0, 100), controller.signal);
  controller.abort();
  await expect(outcome).rejects.toMatchObject({ code: "CANCELLED" });
});
