import { randomFillSync } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type ArtefactStore, openArtefactStore, sha256 } from "../../agent/artefact/store.ts";
import { fetchArtefact, serveArtefacts } from "../../agent/artefact/transfer.ts";
import { limits } from "../../protocol/limits.ts";
import { readArtefact, statArtefact } from "../../protocol/messages/artefact.ts";
import type { ClusterNetwork } from "../../protocol/ports.ts";
import { damageFile } from "../fixtures/damage.ts";
import { openNetworks, silentLog } from "../fixtures/network.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";

/** The asker, a peer that lies or has nothing, and an honest one. */
let cluster: Awaited<ReturnType<typeof openNetworks>>;
let asker: ClusterNetwork;
let liar: ClusterNetwork;
let honest: ClusterNetwork;

const bytes = randomFillSync(new Uint8Array(2 * limits.artefactChunkBytes + 11));
const digest = sha256(bytes);
const served: { store?: ArtefactStore } = {};
/** How the liar answers; set by each test. */
const lie = {
  stat: async () => ({ bytes: bytes.length }),
  read: async (chunkIndex: number) => ({ bytes: chunkOf(bytes, chunkIndex) }),
};
const truth = { ...lie };
const chunkOf = (of: Uint8Array, chunkIndex: number) =>
  of.slice(chunkIndex * limits.artefactChunkBytes, (chunkIndex + 1) * limits.artefactChunkBytes);

beforeAll(async () => {
  cluster = await openNetworks(3);
  [asker, liar, honest] = cluster.nodes as [ClusterNetwork, ClusterNetwork, ClusterNetwork];
  liar.handle(statArtefact, () => lie.stat());
  liar.handle(readArtefact, ({ chunkIndex }) => lie.read(chunkIndex));
  serveArtefacts(
    honest,
    new Proxy({} as ArtefactStore, { get: (_, name) => Reflect.get(served.store!, name) }),
  );
});
afterAll(() => cluster.close());

function open(path = join(temporaryFolder(), "artefacts")): ArtefactStore {
  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  return store;
}
async function serveHonestly(): Promise<void> {
  served.store = open();
  await served.store.put(bytes);
}
const fetchInto = (
  store: ArtefactStore,
  holders: readonly ClusterNetwork[],
  signal = AbortSignal.timeout(10_000),
) =>
  fetchArtefact(
    digest,
    { network: asker, store, holders: holders.map(({ peerId }) => peerId), log: silentLog },
    signal,
  );

test("an artefact of several chunks is fetched, checked and kept", async () => {
  await serveHonestly();
  const store = open();
  expect(Buffer.compare(await fetchInto(store, [honest]), bytes)).toBe(0);
  expect(store.stat(digest)).toBe(bytes.length);
  expect(Buffer.compare(await fetchInto(store, []), bytes)).toBe(0);
});

test.each([
  [
    "a flipped bit",
    { read: async (i: number) => ({ bytes: chunkOf(bytes, i).map((b) => b ^ Number(i === 1)) }) },
  ],
  ["a short chunk", { read: async (i: number) => ({ bytes: chunkOf(bytes, i).subarray(1) }) }],
  ["an empty chunk", { read: async () => ({ bytes: new Uint8Array(0) }) }],
  ["a long last chunk", { read: async () => ({ bytes: new Uint8Array(limits.artefactChunkBytes) }) }],
  ["a smaller size", { stat: async () => ({ bytes: 5 }) }],
  ["a larger size", { stat: async () => ({ bytes: bytes.length + 1 }) }],
  [
    "a chunk over the bound of a message",
    { read: async () => ({ bytes: new Uint8Array(2 * limits.artefactChunkBytes) }) },
  ],
  ["a size that no artefact has", { stat: async () => ({ bytes: -1 }) }],
])("a peer that sends %s is passed over for the next holder", async (_what, changes) => {
  Object.assign(lie, truth, changes);
  await serveHonestly();
  const store = open();
  expect(Buffer.compare(await fetchInto(store, [liar, honest]), bytes)).toBe(0);
});

test("with no true copy anywhere, the error says what each holder said, and nothing is kept", async () => {
  Object.assign(lie, truth, { read: async (i: number) => ({ bytes: chunkOf(bytes, i).fill(0) }) });
  served.store = open();
  const store = open();
  await expect(fetchInto(store, [liar, honest])).rejects.toMatchObject({
    code: "ARTEFACT_MISSING",
    message: expect.stringMatching(/sent other bytes.*; .*no artefact/),
  });
  await expect(fetchInto(store, [])).rejects.toMatchObject({
    message: expect.stringMatching(/no live peer/),
  });
  expect(store.list()).toEqual([]);
});

test("our own copy that is damaged is replaced by a peer's", async () => {
  await serveHonestly();
  const path = join(temporaryFolder(), "artefacts");
  const before = openArtefactStore(path);
  await before.put(bytes);
  await before.close();
  damageFile(join(path, "data.mdb"), bytes.subarray(100, 140));
  const store = open(path);
  expect(Buffer.compare(await fetchInto(store, [honest]), bytes)).toBe(0);
  expect(Buffer.compare(store.get(digest), bytes)).toBe(0);
});

test("an aborted fetch ends with the abort, not with a missing artefact", async () => {
  const controller = new AbortController();
  Object.assign(lie, truth, {
    read: async (i: number) => {
      controller.abort();
      return { bytes: chunkOf(bytes, i) };
    },
  });
  await expect(fetchInto(open(), [liar], controller.signal)).rejects.toMatchObject({ name: "AbortError" });
});
