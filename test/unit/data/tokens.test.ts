import { expect, test } from "vitest";
import {
  detokeniser,
  fitTokens,
  marksOf,
  type TokenEncoder,
  tokenCount,
  tokeniser,
} from "../../../agent/data/preparation/tokens.ts";

const text = "The cat sat on the mat. The cat sat.";
const learn = (method: TokenEncoder["kind"], marked?: true): TokenEncoder =>
  fitTokens(
    { method, vocabularyMax: 262 },
    { column: "text", length: 8, ...(marked ? { marked } : {}) },
    () => [text],
  );

test.each(["bytes", "bpe"] as const)("of %s a text comes back as it was, with marks and without", (kind) => {
  for (const marked of [undefined, true] as const) {
    const encoder = learn(kind, marked);
    const tokens = tokeniser(encoder)(text);
    const { begin, end } = marksOf(encoder);
    expect(detokeniser(encoder)(marked ? [begin, ...tokens, end, 0, 0] : [...tokens, 0])).toBe(text);
    const first = marked ? 3 : 1;
    expect(Math.min(...tokens)).toBeGreaterThanOrEqual(first);
    expect(Math.max(...tokens)).toBeLessThan(tokenCount(encoder));
  }
});

test("merges make a text shorter, and the vocabulary no larger than asked for", () => {
  expect(tokenCount(learn("bytes"))).toBe(257);
  expect(tokenCount(learn("bpe"))).toBe(257 + 6);
  expect(tokeniser(learn("bpe"))(text).length).toBeLessThan(tokeniser(learn("bytes"))(text).length);
});

test("words come back in lower case with blanks between them, unknown ones as such", () => {
  const encoder = learn("words");
  expect(detokeniser(encoder)(tokeniser(encoder)("The DOG sat."))).toBe("the \ufffd sat .");
});
