import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { expect, test } from "vitest";
import { prepareSource, readSplit } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

async function picture(path: string, colour: string, size = { height: 4, width: 6 }): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  await sharp({ create: { ...size, channels: 3, background: colour } }).toFile(path);
}

async function folder(): Promise<string> {
  const root = temporaryFolder();
  for (let i = 0; i < 12; i++) {
    await picture(join(root, "red", `${i}.png`), "#ff0000");
    await picture(join(root, "blue", `${i}.jpg`), "#0000ff");
  }
  return root;
}

test("a folder for each class becomes labelled images", async () => {
  const prepared = await prepareSource(await folder(), { kind: "images" });
  const { manifest } = prepared;
  expect(manifest.shape).toEqual({ inputShape: [4, 6, 3], target: { kind: "class", classCount: 2 } });
  expect(manifest.fitted.classes).toEqual(["blue", "red"]);
  expect(manifest.train.count + manifest.test.count).toBe(24);
  const { inputs, targets } = readSplit(prepared, manifest.train);
  for (const [i, row] of inputs.entries()) {
    const [red, , blue] = row;
    expect(targets[i]).toEqual([red! > blue! ? 1 : 0]);
  }
});

test("a split that the folders tell is taken as it is; sizes and channels as asked for", async () => {
  const root = temporaryFolder();
  for (const side of ["train", "test"])
    for (const [label, colour] of [
      ["dark", "#111111"],
      ["light", "#eeeeee"],
    ] as const)
      for (let i = 0; i < 3; i++)
        await picture(join(root, side, label, `${i}.png`), colour, { height: 3 + i, width: 5 });
  const prepared = await prepareSource(root, { kind: "images", channels: 1, size: { height: 2, width: 2 } });
  expect(prepared.manifest.shape.inputShape).toEqual([2, 2, 1]);
  expect(prepared.manifest.train).toMatchObject({ count: 6, classCounts: [3, 3] });
  expect(prepared.manifest.test).toMatchObject({ count: 6, classCounts: [3, 3] });
});

/** The bytes of an IDX file of zeros and small numbers. */
function idx(shape: readonly number[]): Buffer {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  const header = Buffer.alloc(4 + 4 * shape.length);
  header[2] = 8;
  header[3] = shape.length;
  for (const [d, dimension] of shape.entries()) header.writeUInt32BE(dimension, 4 + 4 * d);
  return Buffer.concat([header, Buffer.from(Array.from({ length: size }, (_, i) => i % 3))]);
}

test("the files of MNIST's family keep their split", async () => {
  const root = temporaryFolder();
  writeFileSync(join(root, "train-images-idx3-ubyte"), idx([9, 2, 3]));
  writeFileSync(join(root, "train-labels-idx1-ubyte"), idx([9]));
  writeFileSync(join(root, "t10k-images-idx3-ubyte"), idx([3, 2, 3]));
  writeFileSync(join(root, "t10k-labels-idx1-ubyte"), idx([3]));
  const { manifest } = await prepareSource(root, { kind: "images" });
  expect(manifest.shape.inputShape).toEqual([2, 3, 1]);
  expect(manifest.train).toMatchObject({ count: 9, classCounts: [3, 3, 3] });
  expect(manifest.test.count).toBe(3);
});

test.each([
  [
    "a file that is no picture",
    async (root: string) => writeFileSync(join(root, "red", "3.png"), "no"),
    /3.png: it cannot be read as a picture/,
  ],
  [
    "a picture of another size",
    async (root: string) => picture(join(root, "red", "3.png"), "#fff", { height: 9, width: 9 }),
    /3.png: it is 9x9, and others are 4x6/,
  ],
  [
    "a picture without a class",
    async (root: string) => picture(join(root, "stray.png"), "#fff"),
    /stray.png: it lies in no folder of a class/,
  ],
])("%s is named", async (_what, spoil, message) => {
  const root = await folder();
  await spoil(root);
  await expect(prepareSource(root, { kind: "images" })).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(message),
  });
});

test("a file where a folder is expected, and the other way round, is named", async () => {
  const root = await folder();
  await expect(prepareSource(join(root, "red", "3.png"), { kind: "images" })).rejects.toThrow(/is a file/);
  await expect(prepareSource(root, { kind: "text" })).rejects.toThrow(/is a folder/);
  await expect(prepareSource(join(root, "none"), { kind: "text" })).rejects.toMatchObject({
    code: "FILE_NOT_FOUND",
  });
});
