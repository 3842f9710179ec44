import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { expect, test } from "vitest";
import { TextCounts } from "../../../agent/data/preparation/content-statistics.ts";
import { datasetText } from "../../../scripts/commands/present/dataset-text.ts";
import { writeDigits } from "../../fixtures/digit-images.ts";
import { type Prepared, prepareSource, readSplit } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

/** What `ringfold data show` prints of it. */
const shown = ({ manifest }: Prepared): string =>
  datasetText({
    ...{ name: "data", version: 1, digest: "d".repeat(64), bytes: manifest.bytes, shape: manifest.shape },
    ...{ trainExamples: manifest.train.count, testExamples: manifest.test.count },
    ...{ addedBy: "somebody", createdAtMs: 0, signers: [], holders: [], pipeline: null, manifest },
  });

test("images: size, and mean and deviation of each channel over the training split alone", async () => {
  const root = temporaryFolder();
  const colours = [
    ["train", "a", "#ff0000"],
    ["train", "b", "#000033"],
    ["train", "b", "#000033"],
    ["test", "a", "#ffffff"],
    ["test", "b", "#ffffff"],
  ] as const;
  for (const [i, [side, label, background]] of colours.entries()) {
    mkdirSync(join(root, side, label), { recursive: true });
    const create = { height: 2, width: 3, channels: 3 as const, background };
    writeFileSync(join(root, side, label, `${i}.png`), await sharp({ create }).png().toBuffer());
  }
  const prepared = await prepareSource(root, { kind: "images" });
  const { images, train } = prepared.manifest;
  expect(images).toMatchObject({ height: 2, width: 3 });
  const close = (value: number) => expect.closeTo(value, 9);
  expect(images!.channels).toEqual([
    { mean: close(1 / 3), sd: close(Math.sqrt(2) / 3) },
    { mean: 0, sd: 0 },
    { mean: close(0.4 / 3), sd: close((0.2 * Math.sqrt(2)) / 3) },
  ]);
  expect(train.classCounts).toEqual([1, 2]);
  expect(shown(prepared)).toMatch(/training images: 2 high, 3 wide[\s\S]*red +│? *0\.3333 +│? *0\.4714/);
});

test("the digits of MNIST have the mean and deviation that everybody normalises them with", async () => {
  const root = temporaryFolder();
  await writeDigits(root, { train: 10_000, test: 100 });
  const { manifest } = await prepareSource(root, { kind: "images" });
  const [grey] = manifest.images!.channels;
  expect(grey!.mean).toBeCloseTo(0.1307, 2);
  expect(grey!.sd).toBeCloseTo(0.3081, 2);
});

test("a labelled text column: documents, tokens, vocabulary, what is unknown and what is cut", async () => {
  const folder = temporaryFolder();
  const path = join(folder, "passages.csv");
  // Row i has i % 10 + 1 words, and word n stands in all rows that have so many.
  const words = (i: number) => Array.from({ length: (i % 10) + 1 }, (_, at) => `word${at}`);
  const rows = Array.from({ length: 400 }, (_, i) => `${i % 2 === 0 ? "even" : "odd"},${words(i).join(" ")}`);
  writeFileSync(path, `label,text\n${rows.join("\n")}\n`);
  const prepared = await prepareSource(path, {
    ...{ kind: "table", target: { column: "label" }, columns: { text: "text" }, split: { testShare: 0 } },
    steps: [{ do: "tokenise", columns: ["text"], method: "words", length: 8, vocabularyMax: 5 }],
  });
  expect(prepared.manifest.texts).toEqual([
    {
      ...{ column: "text", documents: 400, tokens: 2_200, vocabulary: 7, used: 5, unknown: 600, cut: 80 },
      lengths: { min: 1, median: 5, p95: 10, max: 10 },
    },
  ]);
  expect(prepared.manifest.train.classCounts).toEqual([200, 200]);
  expect(shown(prepared)).toMatch(/documents.*median[\s\S]*text +400 +2\.20k/i);
});

test("a text and pairs of texts are described, the held-out part not", async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "text.txt"), "abc ".repeat(10_000));
  const text = await prepareSource(join(folder, "text.txt"), {
    kind: "text",
    length: 32,
    split: { testShare: 0.5 },
  });
  const [bytes] = text.manifest.texts!;
  expect(bytes).toMatchObject({ column: "text", vocabulary: 257, used: 4, unknown: 0, cut: 0 });
  expect(bytes!.tokens).toBeLessThan(40_000);
  const told = readSplit(text, text.manifest.train)
    .targets.flat()
    .filter((token) => token >= 0).length;
  expect(bytes!.tokens).toBe(told + bytes!.documents); // of each piece but its first token

  const rows = Array.from({ length: 100 }, (_, i) => `${"x".repeat(i + 1)},y${i}`);
  writeFileSync(join(folder, "pairs.csv"), `from,to\n${rows.join("\n")}\n`);
  const pairs = await prepareSource(join(folder, "pairs.csv"), {
    ...{ kind: "pairs", source: "from", target: "to", sourceLength: 50, targetLength: 8 },
    split: { testShare: 0 },
  });
  expect(pairs.manifest.texts).toEqual([
    {
      ...{ column: "from", documents: 100, tokens: 5_050, vocabulary: 259, used: 1, unknown: 0, cut: 50 },
      lengths: { min: 1, median: 50, p95: 95, max: 100 },
    },
    expect.objectContaining({ column: "to", documents: 100, tokens: 290, used: 11, cut: 0 }),
  ]);
});

test("a length beyond 4,096 is told to 1.6%, in memory that does not grow with the documents", () => {
  const counts = new TextCounts({ kind: "bytes", column: "text", length: 16 });
  for (let i = 1; i <= 1_000; i++) counts.add({ length: i * 100 });
  const { lengths, cut } = counts.statistics(true);
  expect([lengths.min, lengths.max, cut]).toEqual([100, 100_000, 1_000]);
  for (const [told, exact] of [
    [lengths.median, 50_000],
    [lengths.p95, 95_000],
  ] as const) {
    expect(told).toBeLessThanOrEqual(exact);
    expect(told).toBeGreaterThan(exact / 1.016);
  }
});
