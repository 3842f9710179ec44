import fc from "fast-check";
import { expect, test } from "vitest";
import type { Ring } from "../../agent/ring/ring.ts";

/** What an all-reduce promises, whichever way it goes: round a ring, or by recursive doubling. */

export const never = new AbortController().signal;

/** Integers below 2^20 add exactly in f32, so the expected sum is exact in any order. */
export const rankBuffer = (rank: number, elementCount: number): Float32Array =>
  Float32Array.from({ length: elementCount }, (_, i) => ((i * 31 + rank * 17) % 1_000) - 500);

export interface SegmentOptions {
  readonly segmentBytes: number;
  readonly window: number;
}

/** @param open makes all ranks of a world, linked with each other in memory */
export function testAllReduce(
  open: (worldSize: number, options: SegmentOptions) => Ring[],
  worlds: { readonly min: number; readonly max: number },
): void {
  test("sums on every rank, for any world, length, segment and window, operation after operation", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer(worlds),
        fc.array(fc.nat(600), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 2, max: 6 }),
        async (worldSize, lengths, segmentElements, window) => {
          const members = open(worldSize, { segmentBytes: 4 * segmentElements, window });
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

  test("when one rank dies in the middle, every other rank's operation fails", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 9 }), fc.nat(8), async (worldSize, dying) => {
        const members = open(worldSize, { segmentBytes: 16, window: 2 });
        const dead = dying % worldSize;
        const outcomes = members.map((ring, rank) =>
          rank === dead ? Promise.resolve() : ring.allReduce(rankBuffer(rank, 100), never),
        );
        members[dead]!.destroy();
        const settled = await Promise.allSettled(outcomes);
        for (const [rank, outcome] of settled.entries())
          if (rank !== dead)
            expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
      }),
    );
  });
}
