import assert from "node:assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { detokeniser } from "../../../agent/data/preparation/tokens.ts";
import { prepareSource, readSplit, sha256 } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

function file(content: string | Uint8Array, name = "text.txt"): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return path;
}

const prose = Array.from({ length: 400 }, (_, i) => `Sentence ${i} says: naïve café, ${i * i} crêpes.`).join(
  "\n",
);

test("a text by bytes: each target is the token that comes next, and every byte is used once", async () => {
  const prepared = await prepareSource(file(prose), { kind: "text", length: 32 });
  const { manifest } = prepared;
  expect(manifest.shape).toEqual({
    inputShape: [32],
    features: [{ name: "tokens", shape: [32], kind: "category", cardinality: 257 }],
    target: { kind: "tokens", length: 32, classCount: 257 },
  });
  let tokens = 0;
  for (const split of [manifest.train, manifest.test]) {
    const { inputs, targets } = readSplit(prepared, split);
    for (const [i, row] of inputs.entries()) {
      const told = targets[i]!.filter((token) => token >= 0);
      expect(told.slice(0, -1)).toEqual(row.slice(1, told.length));
      expect(row.slice(told.length + 1).every((token) => token === 0)).toBe(true);
      tokens += told.length;
      expect(() => Buffer.from(row.filter((token) => token > 0).map((token) => token - 1))).not.toThrow();
    }
  }
  const pieces = Math.ceil(Buffer.byteLength(prose) / 500);
  expect(tokens).toBeGreaterThan(Buffer.byteLength(prose) - 2 * pieces);
  expect(manifest.test.count).toBeGreaterThan(0);
});

test("the vocabulary of words is that of the training stretches", async () => {
  const prepared = await prepareSource(file(prose), {
    kind: "text",
    method: "words",
    length: 16,
    vocabularyMax: 20,
  });
  const [encoder] = prepared.manifest.fitted.encoders;
  expect(encoder).toMatchObject({ kind: "words", values: expect.arrayContaining(["sentence", "café", ","]) });
  expect(prepared.manifest.shape.target).toMatchObject({ classCount: 22 });
  expect(sha256(prepared.bytes)).toBe(
    sha256(
      (await prepareSource(file(prose), { kind: "text", method: "words", length: 16, vocabularyMax: 20 }))
        .bytes,
    ),
  );
});

test("merges are learned from the training stretches alone, and make the text shorter", async () => {
  const pipeline = { kind: "text", method: "bpe", length: 32, vocabularyMax: 400 };
  const prepared = await prepareSource(file(prose), pipeline);
  const { manifest } = prepared;
  const [encoder] = manifest.fitted.encoders;
  assert(encoder?.kind === "bpe");
  expect(encoder.merges.length).toBeGreaterThan(50);
  const classCount = 257 + encoder.merges.length;
  expect(classCount).toBeLessThanOrEqual(401);
  expect(manifest.shape.target).toEqual({ kind: "tokens", length: 32, classCount });
  const bytes = await prepareSource(file(prose), { kind: "text", length: 32 });
  expect(manifest.train.count).toBeLessThan(bytes.manifest.train.count / 2);
  // Other words in what is held out: it is cut at the same places, and what was learned stays.
  const textOf = detokeniser(encoder);
  const heldOut = textOf(readSplit(prepared, manifest.test).inputs[0]!).slice(0, 20);
  expect(prose.split(heldOut)).toHaveLength(2);
  const other = await prepareSource(file(prose.replace(heldOut, "z".repeat(heldOut.length))), pipeline);
  expect(other.manifest.fitted).toEqual(manifest.fitted);
  expect(other.manifest.test).not.toEqual(manifest.test);
});

test("pairs: the source, what is written so far behind a mark, what comes next before a mark", async () => {
  const rows = Array.from(
    { length: 50 },
    (_, i) => `"${"a".repeat(1 + (i % 5))}","${"b".repeat(1 + (i % 7))}"`,
  );
  const path = file(["en,de", ...rows].join("\n"), "pairs.csv");
  const prepared = await prepareSource(path, {
    ...{ kind: "pairs", source: "en", target: "de", sourceLength: 4, targetLength: 6 },
  });
  expect(prepared.manifest.shape).toEqual({
    inputShape: [10],
    features: [
      { name: "source", shape: [4], kind: "category", cardinality: 259 },
      { name: "target", shape: [6], kind: "category", cardinality: 259 },
    ],
    target: { kind: "tokens", length: 6, classCount: 259 },
  });
  const b = 3 + "b".charCodeAt(0);
  const { inputs, targets } = readSplit(prepared, prepared.manifest.train);
  const short = inputs.findIndex((row) => row.slice(4).filter((token) => token === b).length === 2);
  expect(inputs[short]!.slice(4)).toEqual([1, b, b, 0, 0, 0]);
  expect(targets[short]).toEqual([b, b, 2, -1, -1, -1]);
});

test.each([
  ["bytes that are no text", Buffer.from([0x61, 0x0a, 0xff, 0x0a]), /line 2: it is not UTF-8/],
  ["an empty text", "", /the training split is empty/],
])("%s are named", async (_what, content, message) => {
  await expect(prepareSource(file(content), { kind: "text" })).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(message),
  });
});

test("a text column of a table becomes tokens beside its numbers", async () => {
  const rows = Array.from(
    { length: 40 },
    (_, i) => `${i},"${i % 2 ? "good and kind" : "bad, simply bad"}",${i % 2}`,
  );
  const prepared = await prepareSource(file(["stars,review,liked", ...rows].join("\n"), "reviews.csv"), {
    kind: "table",
    target: { column: "liked" },
    steps: [{ do: "tokenise", columns: ["review"], length: 5 }],
  });
  expect(prepared.manifest.shape.features).toEqual([
    { name: "stars", shape: [], kind: "number" },
    { name: "review", shape: [5], kind: "category", cardinality: 8 },
  ]);
  const { inputs } = readSplit(prepared, prepared.manifest.train);
  expect(inputs.every((row) => row.slice(1).some((token) => token >= 2))).toBe(true);
});
