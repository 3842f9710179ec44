import { expect, test } from "vitest";
import { Augmentation } from "../../../agent/data/augmentation.ts";
import { augmentSchema } from "../../../protocol/job-spec.ts";

const image = () => Float32Array.from({ length: 4 * 4 }, (_, i) => i + 1);
const spec = (changes: object) => augmentSchema.parse(changes);

/** One image as each of these examples, in this epoch. */
function changed(changes: object, examples: readonly number[], epoch = 0, seed = 1): number[][] {
  const inputs = new Float32Array(examples.length * 16);
  for (const i of examples.keys()) inputs.set(image(), i * 16);
  new Augmentation(spec(changes), [4, 4, 1], seed).apply(inputs, examples, epoch);
  return examples.map((_, i) => [...inputs.subarray(i * 16, (i + 1) * 16)]);
}

const many = Array.from({ length: 60 }, (_, i) => i);
const all = { flip: "both", shift: 1, crop: 1, noise: 0.1 };

test("an example is changed in the same way wherever it lies in a batch, and in another one in another epoch", () => {
  const together = changed(all, many);
  const alone = many.flatMap((example) => changed(all, [example]));
  expect(together).toEqual(alone);
  expect(changed(all, many, 1)).not.toEqual(together);
  expect(changed(all, many, 0, 2)).not.toEqual(together);
});

test("a flip mirrors some images and leaves the others", () => {
  const kinds = new Set(changed({ flip: "horizontal" }, many).map((row) => row.slice(0, 4).join()));
  expect(kinds).toEqual(new Set(["1,2,3,4", "4,3,2,1"]));
  const columns = changed({ flip: "vertical" }, many).map((row) => [row[0], row[4], row[8], row[12]].join());
  expect(new Set(columns)).toEqual(new Set(["1,5,9,13", "13,9,5,1"]));
});

test("a shift fills with zeros, at most so many", () => {
  const zeros = changed({ shift: 1 }, many).map((row) => row.filter((value) => value === 0).length);
  expect(new Set(zeros)).toEqual(new Set([0, 4, 7]));
});

test("a crop keeps the size and shows nothing but the image", () => {
  const rows = changed({ crop: 2 }, many);
  expect(rows.flat().every((value) => value >= 1 && value <= 16)).toBe(true);
  expect(new Set(rows.map((row) => row.join())).size).toBe(9);
});

test("noise has the asked for size", () => {
  const deviations = changed({ noise: 0.5 }, many).flatMap((row) => row.map((value, i) => value - (i + 1)));
  const mean = deviations.reduce((sum, value) => sum + value, 0) / deviations.length;
  const sd = Math.sqrt(deviations.reduce((sum, value) => sum + (value - mean) ** 2, 0) / deviations.length);
  expect(mean).toBeCloseTo(0, 1);
  expect(sd).toBeCloseTo(0.5, 1);
});

test("the bits never change from release to release: a job resumes on another machine", () => {
  expect(changed({ flip: "horizontal", shift: 1 }, [5])[0]).toMatchInlineSnapshot(`
    [
      3,
      2,
      1,
      0,
      7,
      6,
      5,
      0,
      11,
      10,
      9,
      0,
      15,
      14,
      13,
      0,
    ]
  `);
});

test("rows of a table take noise and nothing else", () => {
  expect(() => new Augmentation(spec({ shift: 1 }), [8], 1)).toThrow(/for images, and an example is \[8\]/);
  expect(() => new Augmentation(spec({ noise: 0.1 }), [8], 1)).not.toThrow();
  expect(() => new Augmentation(spec({ crop: 4 }), [4, 4, 1], 1)).toThrow(/nothing is left/);
});
