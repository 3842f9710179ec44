import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { preparationSchema } from "../../../protocol/preparation.ts";
import { lineageText } from "../../../scripts/commands/present/lineage-text.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";
import { type Prepared, prepareSource, sha256 } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

const workers = { min: 1, max: 1, spares: 0 };
const code = (expected: string) => expect.objectContaining({ code: expected });
let bench: CoordinatorBench;
let worker: BenchWorker;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
});

const submit = (changes: object = {}, config?: string) =>
  bench.coordinator.submitJob(exampleSpec({ workers, ...changes }), { config });
const listed = () =>
  bench.coordinator.documents().map(({ kind, name, version }) => `${kind} ${name}@${version}`);
const events = () => bench.coordinator.audit({ after: 0, limit: 1_000 }).entries;

async function prepareNotes(): Promise<Prepared> {
  const path = join(temporaryFolder(), "notes.txt");
  writeFileSync(path, "a ring of machines learns together. ".repeat(200));
  return prepareSource(path, { kind: "text" });
}

function addNotes({ manifest, bytes }: Prepared, pipeline?: string) {
  const about = { name: "notes", manifest, digest: sha256(bytes), addedBy: "somebody on a machine" };
  return bench.coordinator.addDataset({ ...about, ...(pipeline && { pipeline }) });
}

test("each job goes by a registered configuration: the same content is the same number, also after a restart", async () => {
  expect((await submit()).config).toBe("digits@1");
  expect((await submit({ batchSize: 8 })).config).toBe("digits@2");
  expect((await submit()).config).toBe("digits@1");
  bench.crash();
  const next = await bench.start();
  expect(next.job("job-2").config).toBe("digits@2");
  expect((await submit({ batchSize: 8 })).config).toBe("digits@2");
  expect(listed()).toEqual(["config digits@1", "config digits@2"]);
  expect(next.document("config", "digits", 2).content).toMatchObject({ name: "digits", batchSize: 8 });
  expect(next.documentDiff("config", "digits", 1, "digits@2")).toEqual([
    { path: "batchSize", before: exampleSpec().batchSize, after: 8 },
  ]);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
});

test("a configuration is written with its job; one that is too large for that before it, and the key waits for the job", async () => {
  const topology = { layers: "x".repeat(limits.documentBytesAlong) };
  const large = exampleSpec({ workers, model: { architecture: "layers", topology } });
  const key = { key: "a", fingerprint: digestOf("a") };
  const store = openMemoryStore(bench.disk);
  const writes: string[][] = [];
  bench.crash();
  let full = false;
  await bench.start({
    ...store,
    write: async (all) => {
      if (full && all.some((each) => each.key.startsWith("job/")))
        throw new RingfoldError("STORE_FAILED", "full");
      await store.write(all);
      writes.push(
        all.map((each) => each.key.split("/")[0]!).filter((kind) => /^(job|document|request)$/.test(kind)),
      );
    },
  });
  await submit();
  expect(writes.filter((kinds) => kinds.length > 1)).toEqual([["job", "document"]]);
  full = true;
  const fails = bench.coordinator.submitJob(large, { key });
  await expect(fails).rejects.toThrowError(code("STORE_FAILED"));
  full = false;
  expect((await bench.coordinator.submitJob(large, { key })).config).toBe("digits@2");
  expect((await bench.coordinator.submitJob(large, { key })).id).toBe("job-2");
  expect(writes.filter((kinds) => kinds.length > 0 && !kinds.every((kind) => kind === "job"))).toEqual([
    ["job", "document"],
    ["document"],
    ["job", "request"],
  ]);
});

test("what a job is refused for registers nothing", async () => {
  await expect(submit({ from: "digits@7" })).rejects.toThrowError(code("NOT_FOUND"));
  expect(listed()).toEqual([]);
});

test("a job that names a configuration goes by that, if it says the same", async () => {
  const content = exampleSpec({ workers });
  const { coordinator } = bench;
  await coordinator.addDocument({ kind: "config", name: "nightly", content, addedBy: "me" });
  await coordinator.moveDocumentAlias({ kind: "config", name: "nightly" }, "stable", {
    version: 1,
    from: null,
  });
  expect((await submit({}, "nightly@stable")).config).toBe("nightly@1");
  await expect(submit({ batchSize: 8 }, "nightly@stable")).rejects.toThrowError(code("REQUEST_INVALID"));
  await expect(submit({}, "nightly@2")).rejects.toThrowError(code("NOT_FOUND"));
  expect(listed()).toEqual(["config nightly@1"]);
  expect(coordinator.jobs()).toHaveLength(1);
});

test("of two who move an alias at once one is told; aliases of a kind have nothing to do with those of another", async () => {
  const { coordinator } = bench;
  await submit();
  await submit({ batchSize: 8 });
  const place = { kind: "config", name: "digits" } as const;
  await coordinator.moveDocumentAlias(place, "stable", { version: 1, from: null });
  const both = [1, 2].map(() => coordinator.moveDocumentAlias(place, "stable", { version: 2, from: 1 }));
  const outcomes = await Promise.allSettled(both);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  bench.crash();
  const next = await bench.start();
  expect(next.document("config", "digits", "stable").version).toBe(2);
  expect(next.documents().map(({ aliases }) => aliases)).toEqual([[], ["stable"]]);
  expect(() => next.document("pipeline", "digits", "stable")).toThrowError(code("NOT_FOUND"));
  expect(() => next.version("digits", "stable")).toThrowError(code("NOT_FOUND"));
  expect(events().at(-2)).toMatchObject({ event: { kind: "alias-moved", of: "config", version: 2 } });
  await next.removeDocumentAlias(place, "stable");
  expect(() => next.document("config", "digits", "stable")).toThrowError(code("NOT_FOUND"));
});

test("what is needed is not removed and says why; what is removed keeps its number and its name in lineage", async () => {
  const { id } = await submit();
  const { coordinator } = bench;
  const remove = () => coordinator.removeDocument("config", "digits", 1);
  await expect(remove()).rejects.toThrowError(/config|digits@1 stays: job-1 goes by it/);
  await trainThrough(worker, id);
  await expect(remove()).rejects.toThrowError("digits@1 stays: digits@1 came of it");
  await coordinator.removeVersion("digits", 1);
  await coordinator.moveDocumentAlias({ kind: "config", name: "digits" }, "stable", { version: 1 });
  await expect(remove()).rejects.toThrowError("digits@1 stays: stable points to it");
  await coordinator.removeDocumentAlias({ kind: "config", name: "digits" }, "stable");
  await remove();
  expect(listed()).toEqual([]);
  expect(() => coordinator.document("config", "digits", 1)).toThrowError("config digits@1 was removed");
  await trainThrough(worker, (await submit({ from: undefined })).id);
  expect(listed()).toEqual(["config digits@2"]);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
});

test("a data set goes by its pipeline: its own, or the one that it names", async () => {
  const notes = await prepareNotes();
  expect((await addNotes(notes)).pipeline).toBe("notes@1");
  expect((await addNotes(notes)).pipeline).toBe("notes@1");
  const other = preparationSchema.parse({ kind: "text", length: 7 });
  const { coordinator } = bench;
  await coordinator.addDocument({ kind: "pipeline", name: "words", content: other, addedBy: "me" });
  await expect(addNotes(notes, "words@1")).rejects.toThrowError(code("REQUEST_INVALID"));
  await expect(coordinator.removeDocument("pipeline", "notes", 1)).rejects.toThrowError(
    "notes@1 stays: data set notes@1 was prepared by it",
  );
  expect(listed()).toEqual(["pipeline notes@1", "pipeline words@1"]);
});

test("lineage ends in names: of a configuration, of a pipeline, and of what a sweep was submitted with", async () => {
  const notes = await prepareNotes();
  await addNotes(notes);
  const { coordinator } = bench;
  const data = { source: "dataset", name: "notes" } as const;
  const { id } = await submit({ data });
  await worker.report("ready", { jobId: id, dataDigest: sha256(notes.bytes) });
  await trainThrough(worker, id);
  const lineage = coordinator.lineage("digits", 1);
  expect(new Set(lineage.edges.map(({ from, to, relation }) => `${from} ${relation} ${to}`))).toEqual(
    new Set([
      "pipeline:notes@1 prepared dataset:notes@1",
      `data:${notes.manifest.source.digest} prepared dataset:notes@1`,
      "dataset:notes@1 trained job:job-1",
      "config:digits@1 configured job:job-1",
      "job:job-1 made version:digits@1",
    ]),
  );
  expect(lineageText(lineage, "tree")).toMatch(/goes by config digits@1 [0-9a-f]{12} {2}added by a job/);
  expect(lineageText(lineage, "tree")).toMatch(/prepared from pipeline notes@1 [0-9a-f]{12}/);
});
