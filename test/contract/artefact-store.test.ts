import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { expect, onTestFinished, test } from "vitest";
import { type ArtefactStore, openArtefactStore, sha256 } from "../../agent/artefact/store.ts";
import { limits } from "../../protocol/limits.ts";
import { damageFile } from "../fixtures/damage.ts";
import { killWriterAfter } from "../fixtures/killed-writer.ts";
import { artefactOf } from "../fixtures/store-content.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";

function open(path = join(temporaryFolder(), "artefacts")): { store: ArtefactStore; path: string } {
  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  return { store, path };
}
const chunk = limits.artefactChunkBytes;
const randomBytes = (length: number) => randomFillSync(new Uint8Array(length));

test.each([0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk + 7])(
  "%i bytes come back by their digest",
  async (length) => {
    const { store } = open();
    const bytes = randomBytes(length);
    const digest = await store.put(bytes);
    expect(digest).toBe(sha256(bytes));
    expect(store.stat(digest)).toBe(length);
    expect(Buffer.compare(store.get(digest), bytes)).toBe(0);
  },
);

test("a peer reads it chunk by chunk; past the end there is none", async () => {
  const { store } = open();
  const bytes = randomBytes(2 * chunk + 5);
  const digest = await store.put(bytes);
  const chunks = [0, 1, 2].map((chunkIndex) => store.readChunk(digest, chunkIndex));
  expect(chunks.map(({ byteLength }) => byteLength)).toEqual([chunk, chunk, 5]);
  expect(Buffer.compare(Buffer.concat(chunks), bytes)).toBe(0);
  for (const chunkIndex of [3, 1e9, -1]) {
    expect(() => store.readChunk(digest, chunkIndex)).toThrow(
      expect.objectContaining({ code: "ARTEFACT_MISSING" }),
    );
  }
});

test("what is not here is missing", () => {
  const { store } = open();
  const digest = sha256(Uint8Array.of(1));
  expect(store.stat(digest)).toBeUndefined();
  expect(() => store.get(digest)).toThrow(expect.objectContaining({ code: "ARTEFACT_MISSING" }));
  expect(store.list()).toEqual([]);
});

test("the same bytes are one artefact, put once or often", async () => {
  const { store } = open();
  const bytes = randomBytes(100);
  const digests = await Promise.all([store.put(bytes), store.put(bytes), store.put(bytes.slice())]);
  expect(new Set(digests).size).toBe(1);
  expect(store.list()).toEqual([digests[0]]);
});

test("removed is gone, and nothing else goes with it", async () => {
  const { store } = open();
  const [first, second] = [await store.put(randomBytes(2 * chunk)), await store.put(randomBytes(10))];
  await store.remove(first);
  await store.remove(first);
  expect(store.list()).toEqual([second]);
  expect(() => store.readChunk(first, 0)).toThrow(expect.objectContaining({ code: "ARTEFACT_MISSING" }));
});

test("a name finds its artefact after a restart, and moves", async () => {
  const { store, path } = open();
  const digest = await store.put(randomBytes(10));
  expect(store.resolveName("checkpoint/job-1")).toBeUndefined();
  await store.setName("checkpoint/job-1", { digest, step: 200 });
  await store.setName("checkpoint/job-1", { digest, step: 400 });
  await store.close();
  const { store: again } = open(path);
  expect(again.resolveName("checkpoint/job-1")).toEqual({ digest, step: 400 });
  expect(again.stat(digest)).toBe(10);
  expect(again.list()).toEqual([digest]);
});

test("a bit that flips on the disk is found when it is read, and another copy takes its place", async () => {
  const { store, path } = open();
  const bytes = randomBytes(2 * chunk + 100);
  const digest = await store.put(bytes);
  await store.close();
  damageFile(join(path, "data.mdb"), bytes.subarray(chunk + 50, chunk + 90));
  const { store: damaged } = open(path);
  expect(() => damaged.get(digest)).toThrow(expect.objectContaining({ code: "ARTEFACT_CORRUPT" }));
  await damaged.remove(digest);
  await damaged.put(bytes);
  expect(Buffer.compare(damaged.get(digest), bytes)).toBe(0);
});

test("two processes write to one store at once, and each sees what the other has", async () => {
  const { store, path } = open();
  const others = killWriterAfter(8, "artefacts", path);
  const own: string[] = [];
  for (let number = 1_001; number <= 1_008; number++) own.push(await store.put(artefactOf(number)));
  const acknowledged = await others;
  for (const digest of own) expect(sha256(store.get(digest))).toBe(digest);
  for (let number = 1; number <= acknowledged; number++) {
    expect(store.stat(sha256(artefactOf(number)))).toBe(artefactOf(number).length);
  }
});

test("SIGKILL in the middle of a put leaves every acknowledged artefact whole and no half one", async () => {
  const { path } = open();
  for (const count of [1, 3, 5]) {
    const acknowledged = await killWriterAfter(count, "artefacts", path);
    const { store } = open(path);
    for (let number = 1; number <= acknowledged; number++) {
      expect(store.list()).toContain(sha256(artefactOf(number)));
    }
    for (const digest of store.list()) expect(sha256(store.get(digest))).toBe(digest);
    await store.close();
  }
});

test("a path that cannot be a store is refused with STORE_FAILED", () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "file"), "not a folder");
  expect(() => openArtefactStore(join(folder, "file", "artefacts"))).toThrow(
    expect.objectContaining({ code: "STORE_FAILED" }),
  );
});

test("two who write to one store, as an agent and its trainer, keep one journal of the list", async () => {
  const { store, path } = open();
  const other = open(path).store;
  expect(store.holdings()).toMatchObject({ revision: 0, recent: [] });
  const digests = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? store : other).put(Uint8Array.of(i))),
  );
  await store.put(Uint8Array.of(99), { listed: false });
  await other.remove(digests[3]!);
  await other.remove(digests[3]!);
  const { store: id, revision, recent } = store.holdings();
  expect(revision).toBe(21);
  expect(recent).toHaveLength(limits.changesTold);
  expect(recent.at(-1)).toEqual({ digest: digests[3], held: false });
  expect(other.holdings()).toEqual({ store: id, revision, recent });
  const held = digests.filter((_, i) => i !== 3).toSorted();
  expect([store.list(), store.lists(digests[0]!), store.lists(digests[3]!)]).toEqual([held, true, false]);
  const first = store.list({ after: null, max: 7 });
  expect(first).toEqual(held.slice(0, 7));
  expect(store.list({ after: first.at(-1)!, max: 100 })).toEqual(held.slice(7));
});

test("names are found, and removed without what they refer to", async () => {
  const { store } = open();
  const digest = await store.put(Uint8Array.of(1));
  await store.setName("checkpoint/job-1", { digest, step: 3 });
  await store.setName("checkpoint/job-2/1", { digest, step: 4 });
  expect([...store.names().keys()]).toEqual(["checkpoint/job-1", "checkpoint/job-2/1"]);
  await store.removeName("checkpoint/job-1");
  expect([...store.names()]).toEqual([["checkpoint/job-2/1", { digest, step: 4 }]]);
  expect(store.lists(digest)).toBe(true);
});

test("a store of an earlier release, which has no journal, says that its list has to be read", async () => {
  const path = join(temporaryFolder(), "artefacts");
  const before = openArtefactStore(path);
  const digest = await before.put(Uint8Array.of(1));
  await before.close();
  const raw = openLmdb({ path, encoding: "binary" });
  for (const key of [...raw.getKeys({ start: "journal/", end: "journal0" })]) await raw.remove(key);
  await raw.close();
  const { store } = open(path);
  expect(store.holdings()).toMatchObject({ revision: 1, recent: [] });
  await store.remove(digest);
  expect(store.holdings()).toMatchObject({ revision: 2, recent: [{ digest, held: false }] });
});
