import { limits } from "../../protocol/limits.ts";
import type { StoreWrite } from "../../protocol/ports.ts";

/** Whether any store takes these in one write: etcd bounds the operations of a transaction, and its bytes. */
export function isWithinOneWrite(writes: readonly StoreWrite[]): boolean {
  const bytes = writes.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);
  return writes.length <= limits.storeWritesMax && bytes <= limits.storeWriteBytesMax;
}

/** Cuts what needs not be written at once into as few writes as take it, in order. */
export function inWrites<Item>(items: readonly Item[], writeOf: (item: Item) => StoreWrite): Item[][] {
  const portions: Item[][] = [];
  for (const item of items) {
    const last = portions.at(-1);
    if (last && isWithinOneWrite([...last, item].map(writeOf))) last.push(item);
    else portions.push([item]);
  }
  return portions;
}
