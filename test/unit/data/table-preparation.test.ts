import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { prepareRows } from "../../../agent/data/preparation/raw-rows.ts";
import type { SplitContent } from "../../../protocol/messages/dataset.ts";
import { loansCsv } from "../../fixtures/loans.ts";
import { type Prepared, prepareSource, readSplit, sha256 } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

function prepare(
  content: string | Uint8Array,
  pipeline: object,
  { name = "table.csv" }: { readonly name?: string } = {},
): Promise<Prepared> {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return prepareSource(path, { kind: "table", ...pipeline });
}

const read = (prepared: Prepared, split: SplitContent) => {
  const { inputs, targets } = readSplit(prepared, split);
  return { inputs, targets: targets.map(([label]) => label) };
};

const loans = { target: { column: "repaid" }, ignore: ["id"] };
const filled = {
  ...loans,
  steps: [{ do: "missing", columns: ["Income (k)"], with: "mean" }, { do: "normalise" }],
};

const byText = (a: string, b: string) => (a < b ? -1 : 1);

test("a table becomes chunks, a schema, statistics and a class balance", async () => {
  const prepared = await prepare(loansCsv(1_000), filled);
  const { manifest } = prepared;
  expect(manifest.shape).toEqual({
    inputShape: [4],
    features: [
      { name: "income-k", shape: [], kind: "number" },
      { name: "region", shape: [3], kind: "number" },
    ],
    target: { kind: "class", classCount: 2 },
  });
  expect(manifest.fitted.classes).toEqual(["no", "yes"]);
  const { train, test: held } = manifest;
  expect(train.count + held.count).toBe(1_000);
  expect(held.count / 1_000).toBeCloseTo(0.2, 1);
  const { inputs, targets } = read(prepared, train);
  expect(targets.filter((label) => label === 1)).toHaveLength(train.classCounts![1]!);
  const incomes = inputs.map(([income]) => income!);
  const mean = incomes.reduce((sum, value) => sum + value, 0) / incomes.length;
  expect(mean).toBeCloseTo(0, 5);
  expect(Math.sqrt(incomes.reduce((sum, value) => sum + value * value, 0) / incomes.length)).toBeCloseTo(
    1,
    5,
  );
  for (const [, ...region] of inputs) expect(region.reduce((sum, value) => sum + value, 0)).toBe(1);
  const income = manifest.statistics.find(({ name }) => name === "Income (k)")!;
  expect(income.missing).toBeGreaterThan(0);
  expect(income.quantiles).toHaveLength(7);
});

test("the same source in the same way is the same data set, to the byte", async () => {
  const [first, second] = [await prepare(loansCsv(500), filled), await prepare(loansCsv(500), filled)];
  expect(sha256(first.bytes)).toBe(sha256(second.bytes));
  expect([...first.chunks.keys()]).toEqual([...second.chunks.keys()]);
});

test("what is learned is learned from the training rows alone", async () => {
  const lines = loansCsv(400).trimEnd().split("\n");
  const pipeline = {
    ...loans,
    split: { by: ["id"] },
    steps: [
      { do: "missing", columns: ["Income (k)"], with: "median" },
      { do: "outliers" },
      { do: "normalise", method: "min-max" },
      { do: "encode", method: "index" },
    ],
  };
  const before = await prepare(lines.join("\n"), pipeline);
  // The held-out rows become something else entirely, their sides stay: nothing that was learned may change.
  const heldOut = await heldOutIds(lines, pipeline);
  expect(heldOut.size).toBeGreaterThan(40);
  const changed = lines.map((line, i) => {
    const id = line.split(",")[0]!;
    return i > 0 && heldOut.has(id) ? `${id},${9_999 + i},elsewhere,no` : line;
  });
  const after = await prepare(changed.join("\n"), pipeline);
  expect(after.manifest.fitted).toEqual(before.manifest.fitted);
  expect(after.manifest.train).toEqual(before.manifest.train);
  expect(after.manifest.statistics).toEqual(before.manifest.statistics);
  expect(after.manifest.test.chunks).not.toEqual(before.manifest.test.chunks);
});

/** Which ids are held out: with `id` as the only input they can be read from the examples. */
async function heldOutIds(lines: readonly string[], { split }: { split: object }): Promise<Set<string>> {
  const pipeline = { target: { column: "repaid" }, ignore: ["Income (k)", "region"], split };
  const prepared = await prepare(lines.join("\n"), pipeline);
  return new Set(read(prepared, prepared.manifest.test).inputs.map(([id]) => String(id)));
}

test("raw rows become the inputs that the training rows are, without their target", async () => {
  const content = loansCsv(300);
  const prepared = await prepare(content, { ...filled, split: { testShare: 0 } });
  const path = join(temporaryFolder(), "new.csv");
  const lines = content.trimEnd().split("\n");
  writeFileSync(path, lines.map((line) => line.slice(0, line.lastIndexOf(","))).join("\n"));
  const { count, data } = await prepareRows(path, prepared.manifest, new AbortController().signal);
  expect(count).toBe(300);
  const rows = Array.from({ length: count }, (_, i) => data.subarray(4 * i, 4 * i + 4).join());
  expect(rows.toSorted(byText)).toEqual(
    read(prepared, prepared.manifest.train)
      .inputs.map((row) => row.join())
      .toSorted(byText),
  );
});

test("rows that share the key of the split are on one side", async () => {
  const rows = Array.from({ length: 200 }, (_, i) => `${i % 20},${i},${i % 2}`);
  const content = ["patient,value,sick", ...rows].join("\n");
  const prepared = await prepare(content, {
    target: { column: "sick" },
    ignore: [],
    split: { by: ["patient"], testShare: 0.4 },
  });
  const patients = (split: SplitContent) => new Set(read(prepared, split).inputs.map(([patient]) => patient));
  const trained = patients(prepared.manifest.train);
  expect([...patients(prepared.manifest.test)].filter((patient) => trained.has(patient))).toEqual([]);
});

test("JSONL is read as CSV is", async () => {
  const rows = loansCsv(300).trimEnd().split("\n").slice(1);
  const objects = rows.map((row) => {
    const [, id, income, region, repaid] = /^(\d+),([\d.]*),"(.*)",(\w+)$/.exec(row)!;
    return JSON.stringify({ id: Number(id), "Income (k)": income ? Number(income) : null, region, repaid });
  });
  const json = await prepare(objects.join("\n"), filled, { name: "table.jsonl" });
  const csv = await prepare(loansCsv(300), filled);
  expect(json.manifest.shape).toEqual(csv.manifest.shape);
  expect(json.manifest.train.count + json.manifest.test.count).toBe(300);
});

const numbers = "a,b,y\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n9,10,0\n11,12,1\n13,14,0\n15,16,1\n";
const target = { column: "y" };
const bad: readonly [string, string | Uint8Array, object, RegExp][] = [
  [
    "a target that is no column",
    numbers,
    { target: { column: "z" } },
    /there is no column z; the columns are a, b, y/,
  ],
  [
    "an unknown column of a step",
    numbers,
    { target, steps: [{ do: "normalise", columns: ["c"] }] },
    /there is no column c/,
  ],
  ["a word among numbers", `${numbers}x,2,0\n`, { target }, /column a, row 9: "x" is no finite number/],
  ["a NaN", `${numbers}NaN,2,0\n`, { target }, /column a, row 9: "NaN" is no finite number/],
  ["an empty cell", `${numbers},2,0\n`, { target }, /column a, row 9: there is no value/],
  [
    "a row that is too short",
    `${numbers}1,2\n`,
    { target },
    /line 10: Expected Number of Columns: 3 Found: 2/,
  ],
  [
    "a row that is too long",
    `${numbers}1,2,3,4\n`,
    { target },
    /line 10: Expected Number of Columns: 3 Found: 4/,
  ],
  ["a quote without an end", `${numbers}"1,2,0\n`, { target }, /line 10: Value with unterminated quote/],
  [
    "no UTF-8",
    Buffer.concat([Buffer.from(numbers), Buffer.from([0xff, 0xfe, 0x2c, 0x31, 0x2c, 0x30, 0x0a])]),
    { target },
    /line 10: Invalid unicode/,
  ],
  ["an empty file", "", { target }, /it is empty/],
  ["a header and nothing else", "a,b,y\n", { target }, /no rows after the header/],
  ["two columns of one name", "a,A,y\n1,2,0\n", { target }, /two columns are named a/],
  [
    "no test rows",
    "a,y\n1,0\n2,1\n",
    { target, split: { testShare: 0.0001 } },
    /the test split is empty: 2 training and 0 test/,
  ],
  [
    "no training rows left",
    numbers,
    { target, steps: [{ do: "outliers", low: 0.5, high: 0.50001, action: "drop" }] },
    /the training split is empty/,
  ],
  [
    "one label",
    numbers.replaceAll(/,1$/gm, ",0"),
    { target: { column: "y", kind: "class" } },
    /1 labels in the training rows/,
  ],
  [
    "a label that was declared otherwise",
    numbers,
    { target: { column: "y", classes: ["1", "2"] } },
    /column y, row \d: "0" is none of the labels/,
  ],
  [
    "a cell of 17 MB",
    `${numbers}${"1".repeat(17 * 2 ** 20)},2,0\n`,
    { target },
    /line 10|[Mm]aximum line size/,
  ],
];
test.each(bad)("%s is named", async (_what, content, pipeline, message) => {
  await expect(prepare(content, pipeline)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(message),
  });
});

test.each([
  ["table.parquet", Buffer.from("PAR1 and no end"), /table.parquet: .*/],
  ["table.jsonl", Buffer.from('{"a":1,"y":0}\n{"a":\n'), /table.jsonl: .*/],
  ["table.jsonl", Buffer.from('{"a":[1,2],"y":0}\n'), /column a holds lists or objects/],
  ["table.xyz", Buffer.from("a"), /its name does not end as one of/],
])("a broken %s is named", async (name, content, message) => {
  await expect(prepare(content, { target }, { name })).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(message),
  });
});
