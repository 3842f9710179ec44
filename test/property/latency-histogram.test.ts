import fc from "fast-check";
import { expect, test } from "vitest";
import { decode, encode } from "../../protocol/codec.ts";
import {
  addLatencies,
  bucketAt,
  LatencyRecorder,
  latenciesSince,
  latencyCount,
  latencyHistogramSchema,
  noLatencies,
  quantileMs,
} from "../../protocol/latency-histogram.ts";

const times = fc.array(fc.double({ min: 0.001, max: 200_000, noNaN: true }), { maxLength: 60 });
const measurable = fc.double({ min: 0.07, max: 65_000, noNaN: true });

function recorded(latencies: readonly number[]) {
  const recorder = new LatencyRecorder();
  for (const latencyMs of latencies) recorder.add(latencyMs);
  return recorder.histogram;
}

test("what several have recorded adds up to what one would have, in any order", () => {
  fc.assert(
    fc.property(times, times, times, (a, b, c) => {
      const [one, two, three] = [recorded(a), recorded(b), recorded(c)];
      const whole = recorded([...a, ...b, ...c]);
      expect(addLatencies(addLatencies(one, two), three)).toEqual(whole);
      expect(addLatencies(three, addLatencies(two, one))).toEqual(whole);
      expect(addLatencies(whole, noLatencies)).toEqual(whole);
      expect(latencyCount(whole)).toBe(a.length + b.length + c.length);
    }),
  );
});

test("what came since is what was recorded since", () => {
  fc.assert(
    fc.property(times, times, (before, since) => {
      expect(latenciesSince(recorded([...before, ...since]), recorded(before))).toEqual(recorded(since));
    }),
  );
});

test("every quantile lies in the bucket of the time that it is, and its middle is at most 4.5% off", () => {
  fc.assert(
    fc.property(
      fc.array(measurable, { minLength: 1, maxLength: 60 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (latencies, share) => {
        const rank = Math.max(1, Math.ceil(share * latencies.length));
        const exact = latencies.toSorted((one, other) => one - other)[rank - 1]!;
        const bucket = bucketAt(recorded(latencies), rank)!;
        expect(bucket.overMs).toBeLessThan(exact * (1 + 1e-9));
        expect(bucket.upToMs).toBeGreaterThanOrEqual(exact * (1 - 1e-9));
        expect(Math.abs(Math.log(quantileMs(recorded(latencies), share)! / exact))).toBeLessThan(0.045);
      },
    ),
  );
});

test("it passes the wire, and is bounded whatever comes", () => {
  fc.assert(
    fc.property(times, (latencies) => {
      const histogram = recorded([0, Number.MIN_VALUE, 1e12, ...latencies]);
      expect(decode(encode(histogram), latencyHistogramSchema, 10_000)).toEqual(histogram);
      expect(histogram.counts.length).toBe(160);
    }),
  );
});

test.each([
  { offset: -33, counts: [1] },
  { offset: 127, counts: [1, 1] },
  { offset: 0, counts: [-1] },
  { offset: 0, counts: [0.5] },
  { offset: 0, counts: Array(161).fill(1) },
])("a histogram that is none is refused: %j", (histogram) => {
  expect(latencyHistogramSchema.safeParse(histogram).success).toBe(false);
});
