import { expect, test } from "vitest";
import { marksOf, type TokenEncoder, tokenCount } from "../../../agent/data/preparation/tokens.ts";
import type { InferenceTensor } from "../../../scripts/commands/inference/open-inference.ts";
import { checkShapes, translate } from "../../../scripts/commands/inference/translation.ts";

const encoder = (length: number): TokenEncoder => ({ kind: "bytes", column: "text", length, marked: true });
const pair = { source: encoder(8), target: encoder(6) };
const { begin, end } = marksOf(pair.target);
const classCount = tokenCount(pair.target);

/** A model that writes what it has read, backwards; and in each place what comes after all that is written there. */
function mirror(requests: InferenceTensor[]) {
  return async (input: InferenceTensor): Promise<Float32Array> => {
    requests.push(input);
    const [rows, rowLength] = input.shape as [number, number];
    const chances = new Float32Array(rows * pair.target.length * classCount).fill(1e-4);
    for (let row = 0; row < rows; row++) {
      const tokens = Array.from(input.data).slice(row * rowLength, (row + 1) * rowLength);
      const read = tokens.slice(0, pair.source.length).filter((token) => token !== 0);
      expect(tokens[pair.source.length]).toBe(begin);
      for (let place = 0; place < pair.target.length; place++) {
        const next = read.toReversed()[place] ?? end;
        chances[(row * pair.target.length + place) * classCount + next] = 0.9;
        chances[(row * pair.target.length + place) * classCount] = 1; // padding, which is never drawn
      }
    }
    return chances;
  };
}

test("each text is written to its own end, side by side", async () => {
  const requests: InferenceTensor[] = [];
  expect(await translate(["ab", "nöl", ""], pair, mirror(requests))).toMatchObject([
    { text: "ab", translation: "ba", complete: true, cut: false },
    { text: "nöl", complete: true, cut: false },
    { text: "", translation: "", complete: true },
  ]);
  // Who has come to its end is asked for no more.
  expect(requests.map(({ shape }) => shape[0])).toEqual([3, 2, 2, 1, 1]);
});

test("what has no place is cut, and what has no end says so", async () => {
  expect(await translate(["abcdefghijk"], pair, mirror([]))).toEqual([
    { text: "abcdefghijk", translation: "hgfedc", complete: false, cut: true },
  ]);
});

test("more texts than are written at once come in order", async () => {
  const texts = Array.from({ length: 70 }, (_, i) => `${i}`);
  const written = await translate(texts, pair, mirror([]));
  expect(written.map(({ translation }) => translation)).toEqual(
    texts.map((text) => [...text].reverse().join("")),
  );
});

test("a model of another kind is refused by its shapes", () => {
  const shapes = { input: [14], output: [6, classCount] };
  expect(() => checkShapes("names", pair, shapes)).not.toThrow();
  expect(() => checkShapes("names", pair, { ...shapes, output: [10] })).toThrowError(
    expect.objectContaining({
      code: "REQUEST_INVALID",
      message: expect.stringContaining("takes [14] and gives [10]"),
    }),
  );
});
