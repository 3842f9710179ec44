import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import type { DatasetDetail } from "../../protocol/messages/dataset.ts";
import { loansCsv } from "../fixtures/loans.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { readSplit } from "../fixtures/prepared-data.ts";

const names = ["agent-1", "agent-2", "agent-3"];
const cluster = useTestCluster(names, { first: ["agent-1"] });

const pipeline = `
kind: table
target: { column: repaid }
ignore: [id]
steps:
  - { do: missing, columns: [Income (k)], with: median }
  - { do: normalise }
`;

async function addLoans(rows: number): Promise<DatasetDetail> {
  await writeFile(join(cluster.folder, "loans.csv"), loansCsv(rows));
  return add("loans.csv", pipeline);
}

/** `ringfold data add` of a file in the cluster's folder, to the first agent. */
async function add(file: string, steps: string): Promise<DatasetDetail> {
  const pipelinePath = join(cluster.folder, `${file}.yaml`);
  await writeFile(pipelinePath, steps);
  return addBy(file, pipelinePath);
}

/** @param pipeline a file, or a registered one */
async function addBy(file: string, pipeline: string): Promise<DatasetDetail> {
  const { folder } = cluster;
  const agent = ["--agent", join(folder, "agent-1")];
  return cluster.ringfold("data", "add", join(folder, file), "--pipeline", pipeline, ...agent);
}

const tabularJob = (name: string) =>
  smallJob({
    name: "loans",
    data: { source: "dataset", name },
    model: { architecture: "mlp", hidden: [16] },
    optimizer: { kind: "adam", learningRate: 0.01 },
    epochs: 10,
    workers: { min: 2, max: 2 },
  });

test("a Parquet file that DuckDB has written comes back: schema, types, and what is missing", async () => {
  const path = join(cluster.folder, "readings.parquet");
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  // Numbers that f32 holds exactly; a NULL in every fifth row of each column but two.
  await connection.run(`COPY (
    SELECT i::BIGINT AS number, (i / 8)::DOUBLE AS ratio, (i % 7)::DECIMAL(6, 2) AS price,
      CASE WHEN i % 5 = 0 THEN NULL ELSE i::SMALLINT END AS gaps,
      CASE WHEN i % 5 = 1 THEN NULL ELSE i % 3 = 0 END AS flag,
      CASE WHEN i % 5 = 2 THEN NULL ELSE 'größe ' || (i % 2) END AS size,
      DATE '2026-01-01' + (i % 2)::INTEGER AS day,
      i::FLOAT AS answer
    FROM range(400) AS t(i)) TO '${path}' (FORMAT parquet)`);
  instance.closeSync();
  const detail = await add(
    "readings.parquet",
    `kind: table
target: { column: answer, kind: number }
split: { by: [number] }
steps:
  - { do: missing, columns: [gaps], with: constant, value: -1 }
`,
  );
  const { shape, fitted, statistics, train, test: heldOut } = detail.manifest;
  expect(shape.target).toEqual({ kind: "number" });
  expect(shape.features).toEqual(
    [
      ["number", []],
      ["ratio", []],
      ["price", []],
      ["gaps", []],
      ["flag", [2]],
      ["size", [2]],
      ["day", [2]],
    ].map(([name, each]) => ({ name, shape: each, kind: "number" })),
  );
  const valuesOf = (name: string) => {
    const encoder = fitted.encoders.find(({ column }) => column === name);
    return new Set(encoder && "values" in encoder ? encoder.values : []);
  };
  expect(valuesOf("flag")).toEqual(new Set(["false", "true"]));
  expect(valuesOf("size")).toEqual(new Set(["größe 0", "größe 1"]));
  expect(valuesOf("day")).toEqual(new Set(["2026-01-01", "2026-01-02"]));
  const missing = Object.fromEntries(statistics.map((each) => [each.name, each.missing > 0]));
  expect(missing).toMatchObject({ number: false, ratio: false, gaps: true, flag: true, size: true });

  const store = openArtefactStore(join(cluster.folder, "agent-1", "artefacts"));
  const chunks = new Map([...train.chunks, ...heldOut.chunks].map((chunk) => [chunk, store.get(chunk)]));
  await store.close();
  const prepared = { manifest: detail.manifest, bytes: new Uint8Array(0), chunks };
  const rows = [train, heldOut].flatMap((split) => {
    const { inputs, targets } = readSplit(prepared, split);
    return inputs.map((input, i) => [...input, ...targets[i]!]);
  });
  const places = (name: string, values: readonly string[]) => {
    const encoder = fitted.encoders.find(({ column }) => column === name)!;
    return "values" in encoder
      ? values.map((value) => encoder.values.map((known) => (known === value ? 1 : 0)))
      : [];
  };
  const [flags, sizes, days] = [
    places("flag", ["false", "true", ""]),
    places("size", ["größe 0", "größe 1", ""]),
    places("day", ["2026-01-01", "2026-01-02"]),
  ];
  const expected = Array.from({ length: 400 }, (_, i) => [
    ...[i, i / 8, i % 7, i % 5 === 0 ? -1 : i],
    ...flags[i % 5 === 1 ? 2 : i % 3 === 0 ? 1 : 0]!,
    ...sizes[i % 5 === 2 ? 2 : i % 2]!,
    ...[...days[i % 2]!, i],
  ]);
  expect(rows.toSorted((a, b) => a[0]! - b[0]!)).toEqual(expected);
}, 60_000);

test("a CSV that one agent holds trains on two: the other fetches it, and becomes its second holder", async () => {
  const detail = await addLoans(6_000);
  expect(detail).toMatchObject({ name: "loans", version: 1 });
  expect(detail.trainExamples + detail.testExamples).toBe(6_000);
  // The same content keeps its number.
  expect(await addLoans(6_000)).toMatchObject({ version: 1, digest: detail.digest });

  await cluster.processes.startAgent("agent-2");
  const { id } = await cluster.api().submitJob(tabularJob("loans"));
  const job = await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed");
  expect(job).toMatchObject({
    state: "succeeded",
    spec: { data: { name: "loans@1", digest: detail.digest } },
  });
  expect(job.evaluation!.accuracy).toBeGreaterThan(0.9);
  expect(job.evaluation!.examples).toBe(detail.testExamples);
  const [version] = await cluster.api().models();
  const { manifest } = await cluster.api().version("loans", version!.version);
  expect(manifest.lineage.dataDigest).toBe(detail.digest);
  await expect
    .poll(async () => (await cluster.api().datasets())[0]?.holders.length, { timeout: 20_000 })
    .toBe(2);

  // Raw rows are prepared as the training rows were, and answered by the served version.
  await cluster.api().deploy("loans", { version: version!.version, shards: 1, replicas: 1 });
  await cluster.until(({ deployments }) => deployments.find(({ state }) => state === "ready"));
  await writeFile(
    join(cluster.folder, "new.csv"),
    "id,Income (k),region\n1,79,north\n2,,south\n3,21,north\n",
  );
  const predict = async () => {
    const answer = await cluster.ringfold("predict", "loans", "--table", join(cluster.folder, "new.csv"));
    return (answer as { predictions: { class: number }[] }).predictions;
  };
  const predictions = await predict();
  expect(predictions.map((prediction) => prediction.class)).toEqual([1, expect.any(Number), 0]);
  expect(predictions[0]).toMatchObject({ className: "yes" });

  // What was learned for predictions outlives the data, which may have to go.
  await cluster.ringfold("data", "remove", "loans@1");
  expect(await cluster.api().datasets()).not.toContainEqual(expect.objectContaining({ name: "loans" }));
  expect(await predict()).toEqual(predictions);
  expect(await cluster.api().versionData("loans", 1)).toMatchObject({ dataset: "loans@1", removed: true });
  // Its pipeline has a name of its own, by which other data is prepared in the same way.
  await writeFile(join(cluster.folder, "more.csv"), loansCsv(500));
  expect(await addBy("more.csv", "loans@1")).toMatchObject({
    ...{ name: "more", version: 1, pipeline: "loans@1" },
    manifest: { preparation: detail.manifest.preparation },
  });
}, 120_000);
