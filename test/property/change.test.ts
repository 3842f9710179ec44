import fc from "fast-check";
import { expect, test } from "vitest";
import { applyChanges, changeSchema, changesBetween } from "../../coordinator/decide/change.ts";
import { decode, encode } from "../../protocol/codec.ts";

const key = fc.stringMatching(/^[a-z]{1,3}$/);
const plain = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, 0, 1, -2.5, "", "text"),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  ),
})).value;

test("the changes between two values lead from one to the other, also after a journey as bytes", () => {
  fc.assert(
    fc.property(plain, plain, (before, after) => {
      const kept = structuredClone(before);
      const changes = changesBetween(before, after);
      const stored = decode(encode(changes), changeSchema.array(), 1e6);
      expect(applyChanges(before, stored)).toEqual(after);
      expect(before).toEqual(kept);
    }),
  );
});

test("a record that comes or goes is a change, too; equal values are none", () => {
  fc.assert(
    fc.property(plain, (value) => {
      expect(applyChanges(undefined, changesBetween(undefined, value))).toEqual(value);
      expect(applyChanges(value, changesBetween(value, undefined))).toBeUndefined();
      expect(changesBetween(value, structuredClone(value))).toEqual([]);
    }),
  );
});

test("a list that grew costs what was added", () => {
  const list = Array.from({ length: 200 }, (_, i) => ({ generation: i }));
  expect(changesBetween({ list }, { list: [...list, { generation: 200 }] })).toEqual([
    { path: ["list"], from: 200, tail: [{ generation: 200 }] },
  ]);
});
