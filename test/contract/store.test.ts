import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { formatKey, storeFormat } from "../../coordinator/store/format.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import type { Store, StoreWrite } from "../../protocol/ports.ts";
import { EtcdCluster, etcdIsInstalled, openLeadingStore } from "../fixtures/etcd-cluster.ts";
import { killWriterAfter } from "../fixtures/killed-writer.ts";
import { batchOf } from "../fixtures/store-content.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { type MemoryDisk, openMemoryStore } from "../simulation/memory-store.ts";

const text = (value: Uint8Array | undefined) => value && new TextDecoder().decode(value);
const put = (key: string, value = key): StoreWrite => ({ key, value: new TextEncoder().encode(value) });
const remove = (key: string): StoreWrite => ({ key, value: undefined });
const keysOf = (store: Store, prefix: string) => [...store.list(prefix)].map(({ key }) => key);

let etcd: EtcdCluster | undefined;
beforeAll(async () => {
  if (etcdIsInstalled) etcd = await EtcdCluster.start(1);
});
afterAll(() => etcd?.close());
let etcdPrefixes = 0;

/** Each call of `reopen` opens the same disk anew. */
const disks: Record<string, () => () => Promise<Store>> = {
  lmdb: () => {
    const path = join(temporaryFolder(), "store");
    return () => openLmdbStore(path);
  },
  memory: () => {
    const disk: MemoryDisk = new Map();
    return async () => openMemoryStore(disk);
  },
  ...(etcdIsInstalled && {
    etcd: () => {
      const prefix = `test-${++etcdPrefixes}/`;
      return () => openLeadingStore(etcd!, prefix);
    },
  }),
};

describe.each(Object.entries(disks))("the store port: %s", (_name, newDisk) => {
  async function open(): Promise<{ store: Store; reopen: () => Promise<Store> }> {
    const openAgain = newDisk();
    let store = await openAgain();
    onTestFinished(() => store.close());
    const reopen = async () => {
      await store.close();
      store = await openAgain();
      return store;
    };
    return { store, reopen };
  }

  test("what was written is read, and what was not is undefined", async () => {
    const { store } = await open();
    await store.write([put("a", "1"), { key: "empty", value: new Uint8Array(0) }]);
    expect(text(store.get("a"))).toBe("1");
    expect(store.get("empty")).toHaveLength(0);
    expect(store.get("b")).toBeUndefined();
    await store.write([put("a", "2")]);
    expect(text(store.get("a"))).toBe("2");
    await store.write([remove("a"), remove("never there")]);
    expect(store.get("a")).toBeUndefined();
  });

  test("an acknowledged write is there after a restart", async () => {
    const { store, reopen } = await open();
    await store.write([put("job/1"), put("job/2")]);
    await store.write([remove("job/1")]);
    const again = await reopen();
    expect(keysOf(again, "job/")).toEqual(["job/2"]);
    expect(text(again.get("job/2"))).toBe("job/2");
  });

  test("a list holds the keys of a prefix in byte order, and nobody else's", async () => {
    const { store } = await open();
    const keys = ["job/10", "job/9", "job/é", "job/Z", "job/a", "job/", "jo", "job", "job0", "joc/1"];
    await store.write(keys.map((key) => put(key)));
    expect(keysOf(store, "job/")).toEqual(["job/", "job/10", "job/9", "job/Z", "job/a", "job/é"]);
    expect(keysOf(store, "none/")).toEqual([]);
  });

  test("a list survives a write in its middle", async () => {
    const { store } = await open();
    await store.write([put("k/1"), put("k/2"), put("k/3")]);
    const seen: string[] = [];
    for (const { key } of store.list("k/")) {
      seen.push(key);
      await store.write([put("unrelated", key)]);
    }
    expect(seen).toEqual(["k/1", "k/2", "k/3"]);
  });

  test("values are copies: neither the writer's array nor a later write changes what was read", async () => {
    const { store } = await open();
    const value = Uint8Array.of(1, 2, 3);
    const writing = store.write([{ key: "v", value }]);
    await writing;
    value.fill(9);
    const [read, [listed]] = [store.get("v")!, [...store.list("v")]];
    await store.write([{ key: "v", value: Uint8Array.of(7, 7, 7) }, put("w", "x".repeat(10_000))]);
    expect([...read]).toEqual([1, 2, 3]);
    expect([...listed!.value]).toEqual([1, 2, 3]);
  });

  test("of one batch the last write of a key counts", async () => {
    const { store } = await open();
    await store.write([put("a", "1"), remove("a"), put("a", "2"), put("b"), remove("b")]);
    expect(text(store.get("a"))).toBe("2");
    expect(store.get("b")).toBeUndefined();
  });

  test("writes that are under way at once are all durable, in order", async () => {
    const { store, reopen } = await open();
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.write([put("last", `${i}`), put(`n/${i}`)])),
    );
    const again = await reopen();
    expect(text(again.get("last"))).toBe("19");
    expect(keysOf(again, "n/")).toHaveLength(20);
  });

  test("a closed store takes nothing", async () => {
    const { store } = await open();
    await store.close();
    await expect(store.write([put("a")])).rejects.toMatchObject({ code: "STORE_FAILED" });
  });
});

describe("the LMDB store", () => {
  test("a batch of which one write fails leaves nothing behind", async () => {
    const store = await openLmdbStore(join(temporaryFolder(), "store"));
    onTestFinished(() => store.close());
    const tooLong = "k".repeat(5_000);
    await expect(store.write([put("a"), put(tooLong), put("b")])).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
    expect(store.get("a")).toBeUndefined();
    expect(store.get("b")).toBeUndefined();
    await store.write([put("c")]);
    expect(text(store.get("c"))).toBe("c");
  });

  test("everything acknowledged survives SIGKILL, and no batch is there by half", async () => {
    const path = join(temporaryFolder(), "store");
    for (const count of [1, 7, 20]) {
      const acknowledged = await killWriterAfter(count, "store", path);
      const store = await openLmdbStore(path);
      const stored = new Map([...store.list("batch/")].map(({ key, value }) => [key, value]));
      await store.close();
      for (let number = 1; number <= acknowledged; number++) {
        for (const { key, value } of batchOf(number)) expect(stored.get(key)).toEqual(Buffer.from(value!));
      }
      expect(stored.size % batchOf(1).length).toBe(0);
    }
  });

  test("a store of a newer release is refused untouched", async () => {
    const path = join(temporaryFolder(), "store");
    const store = await openLmdbStore(path);
    await store.write([put(formatKey, String(storeFormat + 1)), put("job/1")]);
    await store.close();
    await expect(openLmdbStore(path)).rejects.toMatchObject({
      code: "STORE_NEWER",
      data: { place: path, format: storeFormat + 1 },
    });
    await expect(openLmdbStore(path)).rejects.toMatchObject({ code: "STORE_NEWER" });
  });

  test("a store whose format cannot be read is refused, not guessed at", async () => {
    const path = join(temporaryFolder(), "store");
    const store = await openLmdbStore(path);
    await store.write([put("meta/format", "banana")]);
    await store.close();
    await expect(openLmdbStore(path)).rejects.toMatchObject({ code: "STORE_FAILED" });
  });

  test("a path that cannot be a store is refused with STORE_FAILED", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "file"), "not a folder");
    await expect(openLmdbStore(join(folder, "file", "store"))).rejects.toMatchObject({
      code: "STORE_FAILED",
      data: { path: join(folder, "file", "store") },
    });
  });
});
