import { RingfoldError } from "../../protocol/errors.ts";
import type { Store } from "../../protocol/ports.ts";

/** What is on a disk in memory: stores that are opened on it one after the other find it again. */
export type MemoryDisk = Map<string, Uint8Array>;

export function openMemoryStore(disk: MemoryDisk = new Map()): Store {
  let open = true;
  return {
    get: (key) => disk.get(key)?.slice(),
    list: function* (prefix) {
      const keys = [...disk.keys()].filter((key) => key.startsWith(prefix));
      keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      for (const key of keys) yield { key, value: disk.get(key)!.slice() };
    },
    write: async (writes) => {
      if (!open) throw new RingfoldError("STORE_FAILED", "the store is closed");
      for (const { key, value } of writes) {
        if (value === undefined) disk.delete(key);
        else disk.set(key, value.slice());
      }
    },
    close: async () => {
      open = false;
    },
  };
}
