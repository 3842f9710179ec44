import fc from "fast-check";
import { expect, test } from "vitest";
import { differences } from "../../../coordinator/decide/differences.ts";
import { type DocumentEntry, decideDocument, decideRoom } from "../../../coordinator/decide/document.ts";
import { digestOf } from "../../fixtures/messages.ts";

const wanted = (changes: { digest?: string; isAsked?: boolean } = {}) => ({
  ...({
    kind: "config",
    name: "digits",
    digest: digestOf("a"),
    bytes: 10,
    content: { name: "digits" },
  } as const),
  ...{ addedBy: "a job", isAsked: false },
  ...changes,
});
const register = (earlier: DocumentEntry[], changes: Parameters<typeof wanted>[0] = {}): DocumentEntry[] => {
  const decided = decideDocument(earlier, wanted(changes), 7);
  if ("known" in decided) return earlier;
  const { record } = decided;
  return [...earlier.slice(0, record.version - 1), record, ...earlier.slice(record.version)];
};
const numbers = (all: readonly DocumentEntry[]) =>
  all.map(({ version, digest }) => `${version} ${digest[0]}`);

test("other content gets the next number, the same content keeps its own, and what was removed gives none back", () => {
  const [a, b] = [digestOf("a"), digestOf("b")];
  let all = [a, b, a].reduce<DocumentEntry[]>((known, digest) => register(known, { digest }), []);
  expect(numbers(all)).toEqual(["1 a", "2 b"]);
  all = all.map((each) => (each.version === 1 ? { ...each, removedAtMs: 8 } : each));
  expect(numbers(register(all, { digest: a }))).toEqual(["1 a", "2 b", "3 a"]);
});

test("what came with work is to stay once somebody asks for it, under the number that it has", () => {
  const all = register(register([]), { isAsked: true });
  expect(all).toMatchObject([{ version: 1, isAsked: true, createdAtMs: 7 }]);
  expect(register(all, { isAsked: false })).toEqual(all);
});

test("property: room is made by the oldest that came with work, never by what is needed or was asked for, nor by more than it takes", () => {
  const one = fc.record({
    bytes: fc.nat(20),
    isAsked: fc.boolean(),
    isNeeded: fc.boolean(),
    atMs: fc.nat(50),
  });
  fc.assert(
    fc.property(
      fc.array(one, { maxLength: 12 }),
      fc.nat(20),
      fc.nat(14),
      fc.nat(200),
      (all, bytes, count, space) => {
        const present = all.map(({ atMs, ...each }, i) => ({
          ...wanted(),
          ...{ version: i + 1, createdAtMs: atMs, removedAtMs: null },
          ...each,
        }));
        const isNeeded = ({ version }: DocumentEntry) => all[version - 1]!.isNeeded;
        const fits = (left: readonly DocumentEntry[]) =>
          left.length + 1 <= count && left.reduce((sum, each) => sum + each.bytes, bytes) <= space;
        const free = present.filter((each) => !each.isAsked && !isNeeded(each));
        const decide = () => decideRoom(present, bytes, isNeeded, { count, bytes: space });
        if (!fits(present.filter((each) => !free.includes(each)))) {
          expect(decide).toThrowError(expect.objectContaining({ code: "CONFLICT" }));
          return;
        }
        const going = decide();
        expect(going.every((each) => free.includes(each as (typeof present)[number]))).toBe(true);
        expect(fits(present.filter((each) => !going.includes(each)))).toBe(true);
        if (going.length === 0) return;
        const last = going.at(-1)!;
        expect(fits(present.filter((each) => each === last || !going.includes(each)))).toBe(false);
        const stayed = free.filter((each) => !going.includes(each));
        expect(stayed.every(({ createdAtMs }) => createdAtMs >= last.createdAtMs)).toBe(true);
      },
    ),
  );
});

test("two contents differ key by key, and in lists of objects place by place", () => {
  const before = { kind: "table", ignore: ["id"], steps: [{ do: "missing", with: "mean" }] };
  const after = {
    ...{ kind: "table", ignore: ["id", "no"] },
    steps: [{ do: "missing", with: "median" }, { do: "duplicates" }],
  };
  expect(differences(before, before)).toEqual([]);
  expect(differences(before, after)).toEqual([
    { path: "ignore", before: ["id"], after: ["id", "no"] },
    { path: "steps.0.with", before: "mean", after: "median" },
    { path: "steps.1.do", before: undefined, after: "duplicates" },
  ]);
});
