import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { conversations, examplePresence, examples, topics } from "../fixtures/messages.ts";

interface Wire {
  readonly name: string;
  readonly schema: z.ZodType<unknown>;
  readonly bytesMax: number;
  readonly valid: readonly unknown[];
}

const wires: Wire[] = [
  ...conversations.flatMap(({ protocol, request, response, requestBytesMax, responseBytesMax }) => [
    { name: protocol, schema: request, bytesMax: requestBytesMax, valid: examples[protocol]?.requests ?? [] },
    {
      name: `${protocol} answer`,
      schema: response,
      bytesMax: responseBytesMax,
      valid: examples[protocol] ? [examples[protocol].response] : [],
    },
  ]),
  ...topics.map(({ name, schema }) => ({ name, schema, bytesMax: 65_536, valid: [examplePresence()] })),
];

/** Decodes bytes of a peer: the value, or the code of the refusal. Anything else is a defect. */
function receive(bytes: Uint8Array, { schema, bytesMax }: Pick<Wire, "schema" | "bytesMax">): unknown {
  try {
    return decode(bytes, schema, bytesMax);
  } catch (error) {
    if (error instanceof RingfoldError && /^MESSAGE_(INVALID|TOO_LARGE)$/.test(error.code)) return error.code;
    throw error;
  }
}

const anything = { schema: z.unknown(), bytesMax: 1 << 20 };
const invalid = "MESSAGE_INVALID";

test("every conversation and topic has a valid message here", () => {
  expect(wires.filter(({ valid }) => valid.length === 0).map(({ name }) => name)).toEqual([]);
  expect(new Set(Object.keys(examples))).toEqual(new Set(conversations.map(({ protocol }) => protocol)));
});

test.each(wires)("$name: valid messages survive the wire", ({ schema, bytesMax, valid }) => {
  for (const message of valid) {
    const received = decode(encode(message), schema, bytesMax);
    expect(encode(received)).toEqual(encode(schema.parse(message)));
  }
});

test.each(wires)("$name: random and mutated bytes end in a message or a refusal", (wire) => {
  const mutated = fc
    .record({
      message: fc.constantFrom(...wire.valid),
      cut: fc.nat(),
      edits: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
    })
    .map(({ message, cut, edits }) => {
      const bytes = Uint8Array.from(encode(message));
      for (const [at, byte] of edits) bytes[at % bytes.length] = byte;
      return edits.length > 0 ? bytes : bytes.subarray(0, cut % bytes.length);
    });
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 200 })), (bytes) => {
      receive(bytes, wire);
    }),
    { numRuns: 300 },
  );
});

test.each(wires)("$name: values of another shape are refused", (wire) => {
  fc.assert(
    fc.property(fc.anything({ maxDepth: 3 }), (value) => {
      const outcome = receive(encode({ value }), wire);
      if (typeof outcome !== "string") expect(wire.schema.safeParse(outcome).success).toBe(true);
      else expect(outcome).toBe(invalid);
    }),
    { numRuns: 50 },
  );
});

test.each(wires)("$name: a message cut short anywhere is refused", (wire) => {
  for (const message of wire.valid) {
    const bytes = encode(message);
    for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 200)) {
      expect(receive(bytes.subarray(0, length), wire)).toBe(invalid);
    }
  }
});

test.each(wires)("$name: more bytes than its bound are refused unread", (wire) => {
  expect(receive(new Uint8Array(wire.bytesMax + 1), wire)).toBe("MESSAGE_TOO_LARGE");
});

test("bytes after a message are refused", () => {
  expect(receive(Buffer.concat([encode({ a: 1 }), Buffer.of(0)]), anything)).toBe(invalid);
});

test.each([
  ["array", [0xdd, 0xff, 0xff, 0xff, 0xff]],
  ["map", [0xdf, 0xff, 0xff, 0xff, 0xff]],
  ["string", [0xdb, 0xff, 0xff, 0xff, 0xff]],
  ["bytes", [0xc6, 0xff, 0xff, 0xff, 0xff]],
  ["extension", [0xc9, 0xff, 0xff, 0xff, 0xff, 0x74]],
  ["string bundle", [0xc7, 4, 0x62, 0x7f, 0xff, 0xff, 0xff]],
])("a declared length of 4 GiB costs nothing: %s", (_what, bytes) => {
  expect(receive(Uint8Array.from(bytes), anything)).toBe(invalid);
});

test.each([
  ["arrays to the bound of a message", () => Buffer.alloc(1 << 20, 0x91)],
  ["arrays that end well", () => Buffer.concat([Buffer.alloc(5_000, 0x91), Buffer.of(0xc0)])],
  ["maps", () => Buffer.concat([...Array(5_000).fill(Buffer.of(0x81, 0xa1, 0x61)), Buffer.of(0xc0)])],
])("nesting deeper than any message of ours is refused: %s", (_what, make) => {
  expect(receive(make(), anything)).toBe(invalid);
});

test("keys of a peer never reach a prototype", () => {
  const text = (word: string) => Buffer.from([0xa0 + word.length, ...Buffer.from(word)]);
  const polluted = Buffer.concat([
    ...[Buffer.of(0x82), text("__proto__"), Buffer.of(0x81), text("admin"), Buffer.of(0xc3)],
    ...[text("constructor"), Buffer.of(0x81), text("prototype"), Buffer.of(0x80)],
  ]);
  const value = receive(polluted, anything) as Record<string, unknown>;
  expect(value.admin).toBeUndefined();
  expect(({} as Record<string, unknown>).admin).toBeUndefined();
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  for (const wire of wires) expect([invalid, ""]).toContain(receive(polluted, wire));
});

test.each([
  ["Error", [0xd4, 0x65, 0, 0x92, 0xa5, ...Buffer.from("Error"), 0xa1, 0x78]],
  ["Set", [0xd4, 0x73, 0, 0x91, 1]],
  ["RegExp", [0xd4, 0x78, 0, 0x92, 0xa4, ...Buffer.from("(a+)"), 0xa0]],
  ["Date", [0xd6, 0xff, 0, 0, 0, 1]],
  ["typed array", [0xc7, 3, 0x74, 3, 0, 0]],
  ["big integer", [0xd4, 0x42, 5]],
  ["reserved byte", [0xc1]],
])("bytes of a peer build no object of a class: %s", (_what, bytes) => {
  expect(receive(Uint8Array.from(bytes), anything)).toBe(invalid);
  expect(receive(Buffer.concat([Buffer.of(0x91), Uint8Array.from(bytes)]), anything)).toBe(invalid);
});

test("plain values of any kind survive", () => {
  const plain = fc.object({
    maxDepth: 4,
    values: [
      fc.string(),
      fc.double({ noNaN: true }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.uint8Array(),
    ],
  });
  fc.assert(
    fc.property(plain, (value) => {
      fc.pre(!JSON.stringify(value).includes("__proto__"));
      const received = decode(encode(value), z.unknown(), 1 << 20);
      expect(encode(received)).toEqual(encode(value));
    }),
  );
});
