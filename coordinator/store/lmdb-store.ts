import { mkdirSync } from "node:fs";
import { open } from "lmdb";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { Store } from "../../protocol/ports.ts";
import { adoptStore } from "./format.ts";

const mapBytes = 16 * 1024 ** 3;

/**
 * The embedded store: LMDB, one process. `write` is one transaction and resolves after fsync.
 * @throws RingfoldError STORE_FAILED | STORE_NEWER
 */
export async function openLmdbStore(path: string): Promise<Store> {
  const database = openAt(path);
  const store: Store = {
    get: (key) => database.get(key),
    list: function* (prefix) {
      for (const { key, value } of database.getRange({ start: prefix, end: `${prefix}\uffff` }))
        yield { key, value };
    },
    write: async (writes) => {
      try {
        // A plain transaction would commit what came before a write that fails.
        await database.childTransaction(() => {
          for (const { key, value } of writes) {
            if (value === undefined) void database.remove(key);
            else void database.put(key, Buffer.from(value));
          }
        });
        await database.flushed;
      } catch (cause) {
        throw toRingfoldError(cause, "STORE_FAILED");
      }
    },
    close: () => database.close(),
  };
  try {
    await adoptStore(store, path);
    return store;
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

/**
 * Copies a store as of one moment into the folder `to`, also while a coordinator writes to it.
 * Cost: reads and writes what the store holds; free pages are left out.
 * @throws RingfoldError STORE_FAILED
 */
export async function copyLmdbStore(path: string, to: string): Promise<void> {
  const database = openAt(path);
  try {
    mkdirSync(to, { recursive: true, mode: 0o700 });
    await database.backup(to, true);
  } catch (cause) {
    throw toRingfoldError(cause, "STORE_FAILED");
  } finally {
    await database.close();
  }
}

function openAt(path: string) {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return open<Buffer, string>({ path, encoding: "binary", mapSize: mapBytes });
  } catch (cause) {
    throw new RingfoldError("STORE_FAILED", `cannot open the store at ${path}`, { path }, { cause });
  }
}
