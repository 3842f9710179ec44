import fc from "fast-check";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { expect, test } from "vitest";
import { Sampler, shareOf } from "../../agent/training/sampler.ts";

const seed = fc.nat(0xffff_ffff);
const shape = fc.record({
  exampleCount: fc.integer({ min: 1, max: 200 }),
  batchSize: fc.integer({ min: 1, max: 64 }),
  seed,
  /** Of a data set in chunks; more than there are examples is one chunk. */
  chunkExamples: fc.integer({ min: 1, max: 250 }),
});

/** What all ranks together train on in one step; each rank asks a sampler of its own, as each process does. */
const globalBatch = (options: ConstructorParameters<typeof Sampler>[0], step: number, worldSize: number) =>
  Array.from({ length: worldSize }, (_, rank) => [...new Sampler(options).slice({ step, rank, worldSize })]);

test("every example exactly once an epoch, whatever the world is at each step", () => {
  fc.assert(
    fc.property(
      shape,
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
      fc.nat(2),
      (options, worlds, epoch) => {
        const { stepsPerEpoch } = new Sampler(options);
        const seen: number[] = [];
        for (let i = 0; i < stepsPerEpoch; i++) {
          const worldSize = worlds[i % worlds.length]!;
          seen.push(...globalBatch(options, epoch * stepsPerEpoch + i, worldSize).flat());
        }
        expect(seen.toSorted((a, b) => a - b)).toEqual(
          Array.from({ length: options.exampleCount }, (_, i) => i),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test("the global batch of a step is the same examples in the same order in every world", () => {
  fc.assert(
    fc.property(shape, fc.nat(500), fc.integer({ min: 2, max: 9 }), (options, step, worldSize) => {
      expect(globalBatch(options, step, worldSize).flat()).toEqual(globalBatch(options, step, 1).flat());
    }),
  );
});

test("ranks differ by at most one example", () => {
  fc.assert(
    fc.property(shape, fc.nat(500), fc.integer({ min: 1, max: 16 }), (options, step, worldSize) => {
      const sizes = globalBatch(options, step, worldSize).map(({ length }) => length);
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    }),
  );
});

test("a sampler asked out of order answers as one asked in order", () => {
  fc.assert(
    fc.property(shape, fc.array(fc.nat(100), { maxLength: 10 }), (options, steps) => {
      const sampler = new Sampler(options);
      for (const step of steps) {
        const at = { step, rank: 0, worldSize: 2 };
        expect([...sampler.slice(at)]).toEqual([...new Sampler(options).slice(at)]);
      }
    }),
  );
});

/** The whole order of an epoch at once, as releases before 2026-11-29 made it: jobs go on in the middle of theirs. */
function wholeOrder(options: {
  readonly exampleCount: number;
  readonly batchSize: number;
  readonly seed: number;
  readonly chunkExamples: number;
  readonly epoch: number;
}): Uint32Array {
  const { exampleCount, batchSize, chunkExamples, epoch } = options;
  const mixed = Math.imul(options.seed, 0x9e37_79b1) ^ Math.imul(epoch + 1, 0x85eb_ca6b);
  const generator = xoroshiro128plus(mixed | 0);
  const all = Uint32Array.from({ length: exampleCount }, (_, i) => i);
  if (chunkExamples >= exampleCount) return shuffle(all, generator);
  const chunkCount = Math.ceil(exampleCount / chunkExamples);
  const chunks = shuffle(
    Uint32Array.from({ length: chunkCount }, (_, i) => i),
    generator,
  );
  const order = new Uint32Array(exampleCount);
  let end = 0;
  for (let first = 0; first < chunkCount; first += 8) {
    const start = end;
    for (const chunk of chunks.subarray(first, first + 8)) {
      const taken = all.subarray(chunk * chunkExamples, (chunk + 1) * chunkExamples);
      order.set(taken, end);
      end += taken.length;
    }
    shuffle(order.subarray(start, end), generator);
  }
  for (let start = 0; start < exampleCount; start += batchSize)
    order.subarray(start, start + batchSize).sort();
  return order;
}

function shuffle(order: Uint32Array, generator: RandomGenerator): Uint32Array {
  for (let i = order.length - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

test("the order made window by window, from any step on, is that of the whole epoch", () => {
  fc.assert(
    fc.property(shape, fc.array(fc.nat(1_000), { minLength: 1, maxLength: 12 }), (options, steps) => {
      const sampler = new Sampler(options);
      for (const step of steps) {
        const epoch = Math.floor(step / sampler.stepsPerEpoch);
        const start = (step % sampler.stepsPerEpoch) * options.batchSize;
        const order = wholeOrder({ ...options, epoch });
        const batch = sampler.slice({ step, rank: 0, worldSize: 1 });
        expect(batch).toEqual(order.slice(start, start + options.batchSize));
      }
    }),
  );
});

test("the last window of a large epoch, asked for first, is as if those before it had been made", () => {
  // Of so many elements a few numbers are drawn anew in each window, so it matters that they are passed over alike.
  const options = { exampleCount: 2_000_000, chunkExamples: 16_384, batchSize: 10_000, seed: 7 };
  const order = wholeOrder({ ...options, epoch: 0 });
  for (const step of [199, 100, 0]) {
    const batch = new Sampler(options).slice({ step, rank: 0, worldSize: 1 });
    expect(batch).toEqual(order.slice(step * 10_000, (step + 1) * 10_000));
  }
});

test("epochs and seeds shuffle differently", () => {
  const orderOf = (seedOf: number, epoch: number) =>
    globalBatch({ exampleCount: 100, batchSize: 100, seed: seedOf }, epoch, 1).flat().join();
  const orders = [
    orderOf(1, 0),
    orderOf(1, 1),
    orderOf(1, 2),
    orderOf(2, 0),
    orderOf(0, 0),
    orderOf(2 ** 32 - 1, 0),
  ];
  expect(new Set(orders).size).toBe(orders.length);
});

test("the order never changes from release to release: a job resumes on another machine", () => {
  const sampler = new Sampler({ exampleCount: 10, batchSize: 10, seed: 1 });
  expect([...sampler.slice({ step: 0, rank: 0, worldSize: 1 })]).toEqual([4, 1, 9, 0, 2, 8, 5, 6, 7, 3]);
});

test("positions are shuffled evenly", () => {
  const firsts = new Array<number>(8).fill(0);
  for (let epoch = 0; epoch < 4_000; epoch++) {
    const sampler = new Sampler({ exampleCount: 8, batchSize: 8, seed: 5 });
    firsts[sampler.slice({ step: epoch, rank: 0, worldSize: 1 })[0]!]! += 1;
  }
  // Chi-square with 7 degrees of freedom: 24.3 is passed by chance once in a thousand; the seed is fixed.
  const chiSquare = firsts.reduce((sum, count) => sum + (count - 500) ** 2 / 500, 0);
  expect(chiSquare).toBeLessThan(24.3);
});

test("shares cover the whole, in order, for any count and world", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.integer({ min: 1, max: 256 }), (count, worldSize) => {
      let next = 0;
      for (let rank = 0; rank < worldSize; rank++) {
        const { start, end } = shareOf(count, { rank, worldSize });
        expect(start).toBe(next);
        next = end;
      }
      expect(next).toBe(count);
    }),
  );
});

test("of a data set in chunks a batch needs few of them, and two ranks different ones", () => {
  const options = { exampleCount: 64 * 100, chunkExamples: 100, batchSize: 50, seed: 3 };
  const sampler = new Sampler(options);
  const chunksOf = (indices: Uint32Array) => new Set([...indices].map((i) => Math.floor(i / 100)));
  const perEpoch = [0, 1].map(() => new Set<number>());
  for (let step = 0; step < sampler.stepsPerEpoch; step++) {
    const parts = [0, 1].map((rank) => chunksOf(sampler.slice({ step, rank, worldSize: 2 })));
    expect(new Set(parts.flatMap((part) => [...part])).size).toBeLessThanOrEqual(16);
    for (const [rank, part] of parts.entries()) for (const chunk of part) perEpoch[rank]!.add(chunk);
  }
  // Half of 64 each, and the chunk in the middle of each window of eight for both.
  expect(perEpoch.map(({ size }) => size).every((size) => size <= 48)).toBe(true);
});

test("weighted shares cover the whole, in order, and are within one of their proportion", () => {
  const weights = fc.array(fc.integer({ min: 1, max: 4_096 }), { minLength: 1, maxLength: 64 });
  fc.assert(
    fc.property(fc.nat(10_000), weights, (count, weights) => {
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      let next = 0;
      for (const [rank, weight] of weights.entries()) {
        const { start, end } = shareOf(count, { rank, worldSize: weights.length, weights });
        expect(start).toBe(next);
        expect(Math.abs(end - start - (count * weight) / total)).toBeLessThan(1);
        next = end;
      }
      expect(next).toBe(count);
    }),
  );
});

test("equal weights are even parts", () => {
  fc.assert(
    fc.property(fc.nat(1_000), fc.integer({ min: 1, max: 16 }), fc.nat(15), (count, worldSize, of) => {
      const rank = of % worldSize;
      const weights = Array(worldSize).fill(7);
      expect(shareOf(count, { rank, worldSize, weights })).toEqual(shareOf(count, { rank, worldSize }));
    }),
  );
});
