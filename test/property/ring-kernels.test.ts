import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RingMemory } from "../../agent/ring/memory.ts";
import { wireFormats } from "../../agent/ring/wire.ts";
import { type Wire, wireSchema } from "../../protocol/job-spec.ts";

/** The kernels against plain JavaScript that says the same, to the bit. */

const elementsMax = 700;
const memory = new RingMemory({ elementCount: 6 * elementsMax });
const [x, residual, out, addend] = Array.from({ length: 4 }, () => memory.allocate(elementsMax + 200)) as [
  Float32Array,
  Float32Array,
  Float32Array,
  Float32Array,
];

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
const bitsOf = (value: number): number => {
  float[0] = value;
  return word[0]!;
};
const floatOf = (bits: number): number => {
  word[0] = bits;
  return float[0]!;
};

function roundToBf16(value: number): number {
  const bits = bitsOf(value);
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function nearestEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** What a wire makes of a vector: each element as every receiver will decode it. */
const rounded: Readonly<Record<Wire, (values: readonly number[]) => number[]>> = {
  f32: (values) => [...values],
  bf16: (values) => values.map((value) => floatOf(roundToBf16(value) << 16)),
  int8: (values) => {
    const result: number[] = [];
    for (let start = 0; start < values.length; start += 256) {
      const block = values.slice(start, start + 256);
      const largest = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      const quotient = Math.fround(largest / 127);
      const scale = largest < Number.POSITIVE_INFINITY ? (quotient < 2 ** -126 ? 0 : quotient) : Number.NaN;
      const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
      for (const value of block) {
        const quantised = nearestEven(Math.fround(value * inverse)) || 0; // NaN and -0 become 0
        result.push(Math.fround(Math.max(-128, Math.min(127, quantised)) * scale));
      }
    }
    return result;
  },
};

/** Ties of bf16 and their neighbours; every exponent, infinities and NaN with any payload among them. */
const nearTie = fc
  .record({
    upper: fc.nat(0xffff),
    lower: fc.constantFrom(0, 1, 0x7fff, 0x8000, 0x8001, 0xffff),
  })
  .map(({ upper, lower }) => floatOf(upper * 0x10000 + lower));
/** A block of these has a denormal scale in int8, or one that only just is not. */
const tiny = fc.float({ min: Math.fround(-1e-35), max: Math.fround(1e-35), noNaN: true });
const elements = [
  fc.float({ min: -1, max: 1, noNaN: true }),
  fc.float({ noNaN: true, noDefaultInfinity: true }),
  fc.float(),
  nearTie,
  tiny,
];
const vectors = fc.oneof(
  ...elements.map((element) => fc.array(element, { maxLength: elementsMax, size: "max" })),
);
/** Shrinking vectors of hundreds of floats takes minutes and tells nothing. */
const settings = { numRuns: 200, endOnFailure: true };

/** Equal to the bit, -0 and denormals included; any NaN is a NaN. */
function expectSame(actual: ArrayLike<number>, expected: readonly number[]): void {
  for (const [i, value] of expected.entries()) {
    if (!Object.is(actual[i], value)) expect([i, actual[i]]).toEqual([i, value]);
  }
}

const encodeInto = (
  wire: Wire,
  target: Float32Array,
  values: readonly number[],
  options: { addend?: boolean; residual?: boolean; keep?: boolean } = {},
): number => {
  x.set(values);
  wireFormats[wire].encode(memory.kernels)(
    target.byteOffset,
    x.byteOffset,
    options.addend ? addend.byteOffset : 0,
    options.residual ? residual.byteOffset : 0,
    options.keep ? 1 : 0,
    values.length,
  );
  return wireFormats[wire].payloadBytes(values.length);
};

function decode(wire: Wire, payload: Float32Array, elementCount: number): Float32Array {
  const into = x.subarray(0, elementCount);
  const kernel = wireFormats[wire].decode(memory.kernels);
  if (kernel) kernel(into.byteOffset, payload.byteOffset, elementCount);
  else into.set(payload.subarray(0, elementCount));
  return into;
}

describe.each(wireSchema.options)("%s", (wire) => {
  test("what is decoded is what was rounded", () => {
    fc.assert(
      fc.property(vectors, (values) => {
        encodeInto(wire, out, values);
        expectSame(decode(wire, out, values.length), rounded[wire](values));
      }),
      settings,
    );
  });

  test("a payload is as long as the layout says, and nothing beyond it is touched", () => {
    fc.assert(
      fc.property(vectors, (values) => {
        const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength).fill(0xa5);
        const beyond = encodeInto(wire, out, values, { keep: true });
        expect(bytes.subarray(beyond).every((byte) => byte === 0xa5)).toBe(true);
      }),
      settings,
    );
  });

  test("adds an arrived payload and a residual, keeps what receivers get and what it lost", () => {
    fc.assert(
      fc.property(vectors, vectors, fc.boolean(), fc.boolean(), (own, theirs, feedback, keep) => {
        const count = Math.min(own.length, theirs.length);
        const [mine, arrived] = [own.slice(0, count), theirs.slice(0, count)];
        encodeInto(wire, addend, arrived);
        const before = mine.map((value) => Math.fround(value / 3));
        residual.set(before);
        encodeInto(wire, out, mine, { addend: true, residual: feedback, keep });
        const after = { x: x.slice(0, count), residual: residual.slice(0, count) };

        const withResidual = feedback && wire !== "f32";
        const decoded = rounded[wire](arrived);
        const sums = mine.map((value, i) => {
          const base = withResidual ? Math.fround(value + before[i]!) : value;
          return Math.fround(base + decoded[i]!);
        });
        const sent = rounded[wire](sums);
        expectSame(after.x, keep ? sent : mine);
        expectSame(after.residual, withResidual ? sums.map((sum, i) => Math.fround(sum - sent[i]!)) : before);
        expectSame(decode(wire, out, count), sent);
      }),
      settings,
    );
  });
});

test("elementsIn is the largest count whose payload fits", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...wireSchema.options),
      fc.integer({ min: 8, max: 70_000 }),
      (wire, bytes) => {
        const format = wireFormats[wire];
        const count = format.elementsIn(bytes);
        expect(format.payloadBytes(count)).toBeLessThanOrEqual(bytes);
        expect(format.payloadBytes(count + 1)).toBeGreaterThan(bytes);
      },
    ),
  );
});

test("copy moves bytes between any two places, overlapping ones too, and touches no other", () => {
  const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
  const place = fc.nat(bytes.length / 2);
  fc.assert(
    fc.property(place, place, place, (to, from, count) => {
      for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31) % 251;
      const expected = Uint8Array.from(bytes).copyWithin(to, from, from + count);
      memory.kernels.copy(out.byteOffset + to, out.byteOffset + from, count);
      expect(Buffer.compare(Buffer.from(bytes), Buffer.from(expected))).toBe(0);
    }),
    settings,
  );
});

test("a vector is finite where each of its numbers is, wherever it begins and ends", () => {
  const bits = fc.oneof(
    fc.constantFrom(0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0xffff_ffff), // infinities and NaN
    fc.constantFrom(0, 0x8000_0000, 1, 0x7f7f_ffff, 0xff7f_ffff), // zeros, the smallest, the largest
    fc.nat(0x7f7f_ffff),
  );
  const finite = fc.nat(0x7f7f_ffff);
  const vectors = fc.oneof(fc.array(bits, { maxLength: 40 }), fc.array(finite, { maxLength: 40 }));
  fc.assert(
    fc.property(vectors, fc.nat(9), (words, start) => {
      const around = x.subarray(0, words.length + start + 1).fill(Number.NaN);
      const vector = around.subarray(start, start + words.length);
      new Uint32Array(vector.buffer, vector.byteOffset, vector.length).set(words);
      expect(memory.isFinite(vector)).toBe(vector.every(Number.isFinite));
    }),
  );
});
