import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { imageSet, openDataset } from "../../../agent/data/dataset.ts";
import { readIdx } from "../../../agent/data/idx.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { DataSpec } from "../../../protocol/job-spec.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

/** The bytes of an IDX file; `changes` make it a wrong one. */
function idx(
  shape: readonly number[],
  changes: { magic?: number; type?: number; dimensions?: number; bytes?: number } = {},
): Buffer {
  const size = changes.bytes ?? shape.reduce((product, dimension) => product * dimension, 1);
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.writeUInt16BE(changes.magic ?? 0, 0);
  header[2] = changes.type ?? 8;
  header[3] = changes.dimensions ?? shape.length;
  shape.forEach((dimension, d) => {
    header.writeUInt32BE(dimension, 4 + 4 * d);
  });
  return Buffer.concat([header, Buffer.from(Array.from({ length: size }, (_, i) => i % 10))]);
}

function write(content: Uint8Array, name = "file"): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return path;
}

function files(
  contents: Partial<Record<"trainImages" | "trainLabels" | "testImages" | "testLabels", Buffer>> = {},
) {
  const folder = temporaryFolder();
  const all = {
    trainImages: idx([20, 2, 3]),
    trainLabels: idx([20]),
    testImages: idx([4, 2, 3]),
    testLabels: idx([4]),
    ...contents,
  };
  const paths = Object.entries(all).map(([name, content]) => {
    writeFileSync(join(folder, name), content);
    return [name, join(folder, name)];
  });
  return { source: "idx", ...Object.fromEntries(paths) } as Extract<DataSpec, { source: "idx" }>;
}

test("an IDX file is its shape and its bytes", async () => {
  expect(await readIdx(write(idx([2, 2, 2])), 3, Number.POSITIVE_INFINITY)).toEqual({
    shape: [2, 2, 2],
    data: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7),
    fileCount: 2,
  });
});

test.each([
  [0, 0],
  [1, 1],
  [5, 2],
])("of two entries at most %i are %i", async (countMax, count) => {
  const { shape, data } = await readIdx(write(idx([2, 3])), 2, countMax);
  expect(shape).toEqual([count, 3]);
  expect(data).toHaveLength(3 * count);
});

test.each([
  ["an empty file", Buffer.alloc(0), "not an IDX file"],
  ["three bytes", Buffer.alloc(3), "not an IDX file"],
  ["a wrong magic", idx([2, 2], { magic: 0x1f8b }), "not an IDX file"],
  ["floats", idx([2, 2], { type: 0x0d }), "element type 13"],
  ["labels where images belong", idx([4]), "1 dimensions, expected 2"],
  ["a header cut off", idx([2, 2]).subarray(0, 7), "header is cut off"],
  ["a byte too few", idx([2, 2], { bytes: 3 }), "15 bytes, but shape 2x2 needs 16"],
  ["a byte too many", idx([2, 2], { bytes: 5 }), "17 bytes"],
  ["dimensions whose product is absurd", idx([0xffff_ffff, 0xffff_ffff], { bytes: 4 }), "needs"],
])("%s is refused, and the message says why", async (_what, content, detail) => {
  const path = write(content);
  await expect(readIdx(path, 2, 10)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringContaining(detail),
    data: { path },
  });
});

test("no file is FILE_NOT_FOUND; a folder is not a file of data", async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "images"));
  await expect(readIdx(join(folder, "none"), 1, 1)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  await expect(readIdx(join(folder, "images"), 1, 1)).rejects.toMatchObject({ code: "DATA_INVALID" });
});

test("any bytes are a data set or a refusal", async () => {
  const valid = idx([3, 2]);
  const mutated = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 3 }).map((edits) => {
    const bytes = Uint8Array.from(valid);
    for (const [at, byte] of edits) bytes[at] = byte;
    return bytes;
  });
  const folder = temporaryFolder();
  await fc.assert(
    fc.asyncProperty(fc.oneof(mutated, fc.uint8Array({ maxLength: 40 })), async (bytes) => {
      const path = join(folder, "file");
      writeFileSync(path, bytes);
      const outcome = await readIdx(path, 2, 100).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(RingfoldError);
        expect((outcome as RingfoldError).code).toBe("DATA_INVALID");
      }
    }),
  );
});

test("a data set is both halves, with a channel and as many classes as its labels need", async () => {
  const { train, test: held, shape } = await openDataset(files());
  expect({ trainCount: train.count, testCount: held.count }).toEqual({ trainCount: 20, testCount: 4 });
  expect(shape).toEqual({ inputShape: [2, 3, 1], target: { kind: "class", classCount: 10 } });
  const targets = new Float32Array(4);
  held.gather([0, 1, 2, 3], new Float32Array(4 * 6), targets);
  expect([...targets]).toEqual([0, 1, 2, 3]);
});

test("the first so many examples are used where a job says so", async () => {
  const { train, test: held } = await openDataset({ ...files(), trainExamples: 5, testExamples: 2 });
  expect({ trainCount: train.count, testCount: held.count }).toEqual({ trainCount: 5, testCount: 2 });
});

test("labels for other images are refused also where the job takes only the first ones", async () => {
  const spec = { ...files({ trainLabels: idx([19]) }), trainExamples: 5 };
  await expect(openDataset(spec)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringContaining("19 labels for 20 images"),
  });
});

test.each([
  ["labels for other images", { trainLabels: idx([19]) }, "19 labels for 20 images"],
  ["test images of another size", { testImages: idx([4, 3, 2]) }, "training images are 2x3, test images 3x2"],
  ["no examples", { testImages: idx([0, 2, 3]), testLabels: idx([0]) }, "no examples"],
])("%s are refused", async (_what, contents, detail) => {
  await expect(openDataset(files(contents))).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringContaining(detail),
  });
});

test("the digest is of the content: equal files anywhere agree, one other byte does not", async () => {
  const { digest } = await openDataset(files());
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect((await openDataset(files())).digest).toBe(digest);
  for (const name of ["trainImages", "trainLabels", "testImages", "testLabels"] as const) {
    const content = {
      trainImages: idx([20, 2, 3]),
      trainLabels: idx([20]),
      testImages: idx([4, 2, 3]),
      testLabels: idx([4]),
    }[name];
    content[content.length - 1]! ^= 1;
    expect((await openDataset(files({ [name]: content }))).digest).not.toBe(digest);
  }
  expect((await openDataset({ ...files(), trainExamples: 19 })).digest).not.toBe(digest);
});

test("a batch holds the chosen examples, scaled to 0-1, from the start of its arrays", () => {
  const pixels = Uint8Array.of(0, 51, 102, 153, 204, 255);
  const set = imageSet({ count: 3, pixels, labels: Uint8Array.of(7, 8, 9) });
  const inputs = new Float32Array(6).fill(-1);
  const targets = new Float32Array(3).fill(-1);
  set.gather([2, 0], inputs, targets);
  expect([...inputs]).toEqual([0.8, 1, 0, 0.2, -1, -1].map((value) => expect.closeTo(value, 6)));
  expect([...targets]).toEqual([9, 7, -1]);
});

test("MNIST comes with the package: 60,000 and 10,000 images of ten digits", async () => {
  const { train, test: held, shape } = await openDataset({ source: "mnist" });
  expect([train.count, held.count, ...shape.inputShape]).toEqual([60_000, 10_000, 28, 28, 1]);
  expect(shape.target).toEqual({ kind: "class", classCount: 10 });
});
