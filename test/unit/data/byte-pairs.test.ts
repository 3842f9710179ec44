import fc from "fast-check";
import { expect, test } from "vitest";
import {
  learnMerges,
  type Merge,
  pairBytes,
  pairEncoder,
} from "../../../agent/data/preparation/byte-pairs.ts";

const textOf = (tokens: readonly number[], merges: readonly Merge[]): string =>
  new TextDecoder().decode(Uint8Array.from(tokens.flatMap(pairBytes(merges))));
const piecesOf = (text: string, merges: readonly Merge[]): string[] =>
  pairEncoder(merges)(text).map((token) => textOf([token], merges));

/** The example of Sennrich et al.: their four words, as often as there. */
const corpus = [
  ...Array<string>(5).fill(" low"),
  ...Array<string>(2).fill(" lower"),
  ...Array<string>(6).fill(" newest"),
  ...Array<string>(3).fill(" widest"),
].join("");

test("the merges of the paper's example: frequent endings and stems become tokens", () => {
  const merges = learnMerges([corpus], 8);
  const made = merges.map((_, place) => textOf([256 + place], merges));
  expect(made.slice(0, 2)).toEqual(["es", "est"]);
  expect(made).toContain(" low");
  expect(piecesOf(" lowest", merges)).toEqual([" low", "est"]); // a word that was never seen
});

test("what is learned is what a count of all pairs after each merge learns", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c", " "), minLength: 1, maxLength: 24 }), {
        minLength: 1,
        maxLength: 12,
      }),
      fc.integer({ min: 0, max: 12 }),
      (texts, count) => {
        expect(learnMerges(texts, count)).toEqual(learnSlowly(texts, count));
      },
    ),
  );
});

/** Without tables: counts all pairs again for each merge. */
function learnSlowly(texts: readonly string[], count: number): Merge[] {
  let words = texts.flatMap((text) =>
    (text.match(/ ?\p{L}+|\s+(?!\S)|\s+/gu) ?? []).map((word) => [...Buffer.from(word)]),
  );
  const merges: Merge[] = [];
  while (merges.length < count) {
    const counts = new Map<string, number>();
    for (const word of words)
      for (let i = 1; i < word.length; i++) {
        const key = `${word[i - 1]} ${word[i]}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    const [best] = [...counts]
      .map(([key, n]) => ({ merge: key.split(" ").map(Number) as Merge, n }))
      .filter(({ n }) => n >= 2)
      .sort((x, y) => y.n - x.n || x.merge[0] - y.merge[0] || x.merge[1] - y.merge[1]);
    if (!best) break;
    const token = 256 + merges.length;
    merges.push(best.merge);
    words = words.map((word) => {
      const next: number[] = [];
      for (let i = 0; i < word.length; i++) {
        if (word[i] === best.merge[0] && word[i + 1] === best.merge[1]) {
          next.push(token);
          i++;
        } else next.push(word[i]!);
      }
      return next;
    });
  }
  return merges;
}

test("any text comes back as it was", () => {
  const merges = learnMerges([corpus, "Füße, 東京 und 1,234 don't\n\n  do"], 40);
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), (text) => {
      expect(textOf(pairEncoder(merges)(text), merges)).toBe(text);
    }),
  );
  const long = `${"x".repeat(1_000)}${" ".repeat(500)}\u{1f600}`;
  expect(textOf(pairEncoder(merges)(long), merges)).toBe(long);
});

test("a merge never crosses the end of a word", () => {
  const merges = learnMerges(["to be to be to be to be"], 50);
  expect(piecesOf("to be to", merges)).toEqual(["to", " be", " to"]);
});
