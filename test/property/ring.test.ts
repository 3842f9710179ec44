import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chunkRange } from "../../agent/ring/chunks.ts";
import type { DownstreamLink, Segment, UpstreamLink } from "../../agent/ring/link.ts";
import { RingMemory } from "../../agent/ring/memory.ts";
import type { AllReduceOptions } from "../../agent/ring/port.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { type Wire, wireSchema } from "../../protocol/job-spec.ts";
import { memoryRing } from "../simulation/memory-links.ts";
import { never, rankBuffer, type SegmentOptions, testAllReduce } from "./all-reduce.ts";

function rings(worldSize: number, options: SegmentOptions): Ring[] {
  if (worldSize === 1) return [new Ring({ rank: 0, worldSize })];
  return memoryRing(worldSize).map((links, rank) => new Ring({ rank, worldSize, links, ...options }));
}

testAllReduce(rings, { min: 1, max: 16 });

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

test("the news runs both ways: who waits for an upstream that says nothing hears of it from below", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 3, max: 8 }),
      fc.integer({ min: 0, max: 200 }),
      async (worldSize, length) => {
        const members = rings(worldSize, { segmentBytes: 16, window: 2 });
        // Rank 0 is stalled; the last one dies; those between can only wait.
        const waiting = members
          .slice(1, -1)
          .map((ring, i) => ring.allReduce(rankBuffer(i + 1, worldSize + length), never));
        members.at(-1)!.destroy();
        for (const outcome of await Promise.allSettled(waiting))
          expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
      },
    ),
  );
});

test("a rank that has ended the last operation may leave before the others have", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 8 }), fc.nat(300), async (worldSize, elementCount) => {
      const members = rings(worldSize, { segmentBytes: 16, window: 2 });
      await Promise.all(
        members.map(async (ring, rank) => {
          await ring.allReduce(rankBuffer(rank, elementCount), never);
          ring.destroy();
        }),
      );
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

const bytesOf = (array: Float32Array): Buffer =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const lossyWires = wireSchema.exclude(["f32"]).options;

/** What one rank brings to an operation, in the ring's memory or not. */
interface Member {
  readonly ring: Ring;
  readonly vector: Float32Array;
  readonly residual: Float32Array;
}

function members(of: {
  readonly worldSize: number;
  readonly elementCount: number;
  readonly inMemory: boolean;
  readonly segmentBytes: number;
}): Member[] {
  const { worldSize, elementCount, inMemory, segmentBytes } = of;
  return memoryRing(worldSize).map((links, rank) => {
    const options = { rank, worldSize, links, window: 3, segmentBytes };
    if (!inMemory) {
      const [vector, residual] = [new Float32Array(elementCount), new Float32Array(elementCount)];
      return { ring: new Ring(options), vector, residual };
    }
    const memory = new RingMemory({ elementCount: 2 * elementCount });
    const [vector, residual] = [memory.allocate(elementCount), memory.allocate(elementCount)];
    return { ring: new Ring({ ...options, memory }), vector, residual };
  });
}

const reduceAll = (all: readonly Member[], options: AllReduceOptions, withResidual: boolean) =>
  Promise.all(
    all.map(({ ring, vector, residual }) =>
      ring.allReduce(vector, never, { ...options, ...(withResidual ? { residual } : {}) }),
    ),
  );

const worlds = fc.record({
  worldSize: fc.integer({ min: 2, max: 5 }),
  values: fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 5, maxLength: 900, size: "max" }),
  segmentBytes: fc.integer({ min: 64, max: 900 }),
  exactTail: fc.nat(4),
  inMemory: fc.boolean(),
});
const fill = (all: readonly Member[], values: readonly number[]) => {
  for (const [rank, { vector }] of all.entries())
    for (const [i, value] of values.entries()) vector[i] = value * (((i * 7 + rank * 3) % 5) - 2);
};

describe.each(lossyWires)("%s", (wire) => {
  test("every rank ends with the same bytes, near the sum, and with an exact tail", async () => {
    await fc.assert(
      fc.asyncProperty(worlds, async ({ values, exactTail, ...shape }) => {
        const all = members({ ...shape, elementCount: values.length });
        fill(all, values);
        const sums = values.map((_, i) => all.reduce((sum, { vector }) => sum + vector[i]!, 0));
        await reduceAll(all, { wire, exactTail }, false);
        for (const { vector } of all) expect(bytesOf(vector)).toEqual(bytesOf(all[0]!.vector));
        // Each of W roundings loses at most half a step of a partial sum, which is at most 2 * W.
        const step = wire === "int8" ? 1 / 127 : 1 / 128;
        const bound = shape.worldSize * shape.worldSize * 2 * step * 0.51;
        for (const [i, sum] of sums.entries()) {
          const error = Math.abs(all[0]!.vector[i]! - sum);
          expect(error).toBeLessThanOrEqual(i >= values.length - exactTail ? 1e-5 : bound);
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  test("what rounding lost lies in the residuals, and is made up for by the next operations", async () => {
    await fc.assert(
      fc.asyncProperty(worlds, async ({ values, exactTail, ...shape }) => {
        const all = members({ ...shape, elementCount: values.length });
        const operations = 4;
        const total = new Float64Array(values.length);
        const sums = new Float64Array(values.length);
        for (let operation = 0; operation < operations; operation++) {
          fill(all, values);
          for (let i = 0; i < values.length; i++) for (const { vector } of all) sums[i]! += vector[i]!;
          await reduceAll(all, { wire, exactTail }, true);
          for (let i = 0; i < values.length; i++) total[i]! += all[0]!.vector[i]!;
        }
        // Nothing is lost but to the rounding of f32 itself.
        for (let i = 0; i < values.length; i++) {
          const kept = all.reduce((sum, { residual }) => sum + residual[i]!, 0);
          expect(Math.abs(total[i]! + (i < values.length - exactTail ? kept : 0) - sums[i]!)).toBeLessThan(
            1e-4,
          );
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  test("an infinity or a NaN on one rank is not a number on any", async () => {
    await fc.assert(
      fc.asyncProperty(
        worlds,
        fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
        fc.nat(),
        async ({ values, exactTail, ...shape }, bad, at) => {
          const all = members({ ...shape, elementCount: values.length });
          fill(all, values);
          const index = at % values.length;
          all[at % shape.worldSize]!.vector[index] = bad;
          await reduceAll(all, { wire, exactTail }, true);
          for (const { vector } of all) expect(Number.isFinite(vector[index])).toBe(false);
        },
      ),
      { numRuns: 40, endOnFailure: true },
    );
  });
});

/**
 * Links whose bytes leave only when the neighbour takes them: no buffer but the slots of the ring. A slot that is used
 * anew too early sends something else, and ranks that wait for each other's slots would wait for ever. One rank is slow.
 */
function lazyRing(worldSize: number): { upstream: UpstreamLink; downstream: DownstreamLink }[] {
  const hops = Array.from({ length: worldSize }, (_, hop) => {
    const queue: Segment[] = [];
    let wake: (() => void)[] = [];
    const changed = () => {
      for (const resolve of wake.splice(0)) resolve();
    };
    const change = () => new Promise<void>((resolve) => wake.push(resolve));
    const destroy = () => {
      wake = [];
    };
    const upstream: UpstreamLink = {
      peerId: "upstream",
      bytesReceived: 0,
      receive: async () => {
        if (hop === 0) await nextTurn();
        while (queue.length === 0) await change();
        const segment = queue.shift()!;
        changed();
        return { ...segment, payload: segment.payload.slice() };
      },
      hopTimeoutMs: 0,
      destroy,
    };
    const downstream: DownstreamLink = {
      peerId: "downstream",
      bytesSent: 0,
      hopTimeoutMs: 0,
      closed: never,
      get pendingCount() {
        return queue.length;
      },
      send: (segment) => {
        queue.push(segment);
        changed();
      },
      drained: async (_signal, pendingMax = 0) => {
        while (queue.length > pendingMax) await change();
      },
      destroy,
    };
    return { upstream, downstream };
  });
  return hops.map(({ downstream }, rank) => ({
    downstream,
    upstream: hops[(rank + worldSize - 1) % worldSize]!.upstream,
  }));
}

test("a slot waits until its segment has left, and no rank waits for ever", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 8 }),
      fc.nat(900),
      // Agents of another release may have a window of their own.
      fc.array(fc.integer({ min: 2, max: 5 }), { minLength: 8, maxLength: 8 }),
      fc.constantFrom(...wireSchema.options),
      async (worldSize, elementCount, windows, wire) => {
        const all = lazyRing(worldSize).map(
          (links, rank) => new Ring({ rank, worldSize, links, window: windows[rank]!, segmentBytes: 64 }),
        );
        const buffers = all.map((_, rank) => rankBuffer(rank % 2, elementCount).map(Math.sign));
        const expected = Float32Array.from({ length: elementCount }, (_, i) =>
          buffers.reduce((sum, buffer) => sum + buffer[i]!, 0),
        );
        await Promise.all(all.map((ring, rank) => ring.allReduce(buffers[rank]!, never, { wire })));
        const step = wire === "int8" ? (worldSize * worldSize) / 127 : 0;
        for (const buffer of buffers) {
          for (const [i, value] of expected.entries())
            expect(Math.abs(buffer[i]! - value)).toBeLessThanOrEqual(step);
        }
      },
    ),
    { numRuns: 60, endOnFailure: true },
  );
});

test.each([
  ["f32", "bf16"],
  ["bf16", "int8"],
  ["int8", "f32"],
] as [Wire, Wire][])("ranks that disagree about the wire (%s, %s) never sum", async (ours, theirs) => {
  const all = rings(3, { segmentBytes: 64, window: 2 });
  const outcomes = await Promise.allSettled(
    all.map((ring, rank) =>
      ring.allReduce(rankBuffer(rank, 99), never, { wire: rank === 1 ? theirs : ours }),
    ),
  );
  expect(outcomes.every(({ status }) => status === "rejected")).toBe(true);
  expect(
    outcomes.some((outcome) => outcome.status === "rejected" && outcome.reason.code === "MESSAGE_INVALID"),
  ).toBe(true);
});

test("a memory gives out each element once, aligned, and refuses more than it was made for", () => {
  const memory = new RingMemory({ elementCount: 1_000 });
  const [first, second] = [memory.allocate(333), memory.allocate(333)];
  expect(first.byteOffset % 64).toBe(0);
  expect(second.byteOffset).toBeGreaterThanOrEqual(first.byteOffset + first.byteLength);
  expect(() => memory.allocate(2_000)).toThrow();
  const tooLarge = () => new RingMemory({ elementCount: 2 ** 31 });
  // What counts beside the gradient is named, and what helps.
  expect(tooLarge).toThrow(/8\.0 GiB of its memory of 4 GiB.*copy of its last bucket.*lossy wire/);
  expect(tooLarge).toThrow(expect.objectContaining({ remedy: expect.stringContaining("stages") }));
});
