import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Leftovers } from "../../agent/artefact/leftovers.ts";
import { type ArtefactStore, openArtefactStore } from "../../agent/artefact/store.ts";
import {
  markLifeMs,
  markPreparation,
  type PreparationMark,
} from "../../agent/data/preparation/preparation-mark.ts";
import { freeTableFolders, openTableFolder } from "../../agent/data/preparation/table-folder.ts";
import { loansCsv } from "../fixtures/loans.ts";
import { silentLog } from "../fixtures/network.ts";
import { type Prepared, prepareSource } from "../fixtures/prepared-data.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { FakeClock } from "../simulation/fake-clock.ts";

const signal = new AbortController().signal;
const pipeline = { kind: "table", target: { column: "repaid" }, ignore: ["Income (k)"] };

/** An agent's folder with the chunks of a data set, and whoever frees what is left there. */
async function bench(): Promise<{
  loans: Prepared;
  store: ArtefactStore;
  mark: () => Promise<PreparationMark>;
  /** @param lateMs after the marks were made */
  free: (lateMs: number, registered?: (manifest: string) => Promise<boolean>) => Promise<void>;
}> {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "loans.csv"), loansCsv(200));
  const loans = await prepareSource(join(folder, "loans.csv"), pipeline);
  const store = openArtefactStore(join(folder, "artefacts"));
  onTestFinished(() => store.close());
  for (const bytes of loans.chunks.values()) await store.put(bytes, { listed: false });
  const free = (lateMs: number, isRegistered = async (_: string) => false) => {
    const clock = new FakeClock(Date.now() + lateMs);
    return new Leftovers({ store, folder, isRegistered, clock, log: silentLog }).free(signal);
  };
  return {
    ...{ loans, store, free },
    mark: async () => {
      const mark = await markPreparation(folder);
      onTestFinished(() => mark.leave());
      return mark;
    },
  };
}

test("chunks of a preparation that was killed stay for a day, so that the same command goes on; then they are freed", async () => {
  const { store, mark, free, loans } = await bench();
  await mark();
  await free(0);
  expect(store.unlisted()).toHaveLength(loans.chunks.size);
  await free(markLifeMs + 60_000);
  expect(store.unlisted()).toEqual([]);
});

test("one that is under way keeps all, also those of a dead one", async () => {
  const { store, mark, free, loans } = await bench();
  const done = await mark();
  await mark();
  await done.remove();
  await free(markLifeMs - 60_000);
  expect(store.unlisted()).toHaveLength(loans.chunks.size);
});

test.each([
  ["never registered is freed with its chunks", false],
  ["registered, though whoever prepared it was killed before it knew, stays", true],
])("a manifest that was %s", async (_what, isRegistered) => {
  const { store, mark, free, loans } = await bench();
  const digest = await store.put(loans.bytes);
  await (await mark()).describes(digest);
  const asked: string[] = [];
  await free(markLifeMs + 60_000, async (manifest) => {
    asked.push(manifest);
    return isRegistered;
  });
  expect(asked).toEqual([digest]);
  expect(store.list()).toEqual(isRegistered ? [digest] : []);
  expect(store.unlisted()).toHaveLength(isRegistered ? loans.chunks.size : 0);
});

test("while the coordinator cannot be asked nothing is freed; then it is asked again", async () => {
  const { store, mark, free, loans } = await bench();
  const digest = await store.put(loans.bytes);
  await (await mark()).describes(digest);
  await free(markLifeMs + 60_000, () => Promise.reject(new Error("it cannot be reached")));
  expect(store.list()).toEqual([digest]);
  expect(store.unlisted()).toHaveLength(loans.chunks.size);
  await free(markLifeMs + 60_000);
  expect([store.list(), store.unlisted()]).toEqual([[], []]);
});

test("what a trainer has fetched stays: its manifest is here, unlisted; a stray chunk goes", async () => {
  const { store, free, loans } = await bench();
  await store.put(loans.bytes, { listed: false });
  const stray = await store.put(Uint8Array.of(1, 2, 3), { listed: false });
  const checkpoint = await store.put(Uint8Array.of(4, 5, 6));
  await free(0);
  expect(store.unlisted()).toHaveLength(loans.chunks.size + 1);
  expect(store.stat(stray)).toBeUndefined();
  expect(store.stat(checkpoint)).toBe(3);
});

test("temporary tables of a process that is no more are removed; those of others are not touched", async () => {
  const dead = spawnSync(process.execPath, ["-e", "process.stdout.write(String(process.pid))"]).stdout;
  const folders = [`${hostname()}-${dead}-abc`, `elsewhere-${dead}-abc`, `${hostname()}-1-abc`].map((name) =>
    join(tmpdir(), `ringfold-tables-${name}`),
  );
  for (const path of folders) mkdirSync(path, { recursive: true });
  const own = await openTableFolder();
  await freeTableFolders();
  expect(folders.map((path) => existsSync(path))).toEqual([false, true, true]);
  expect(readdirSync(own)).toEqual([]);
});
