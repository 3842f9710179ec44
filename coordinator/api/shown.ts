import { createHash } from "node:crypto";

/** An item as it goes out, and the digest of that. */
export interface Shown {
  readonly text: string;
  readonly digest: string;
}

const known = new WeakMap<object, Shown>();

/**
 * Written once for each object: of ten thousand items few change between two readings, and who shows the same is the same object
 * (`VersionRegistry.view`). Items are never changed in place.
 * Cost: the text stays in memory as long as the item, some hundred bytes.
 */
export function shownOf(item: object): Shown {
  const before = known.get(item);
  if (before) return before;
  const text = JSON.stringify(item);
  const shown = { text, digest: digestOf(text) };
  known.set(item, shown);
  return shown;
}

export const digestOf = (text: string): string =>
  createHash("sha256").update(text).digest("base64url").slice(0, 22);

/** One page of a list as it is answered. */
export class Page<Item extends object> {
  readonly items: Item[];
  /** Cursor of the following one; null on the last. */
  readonly next: string | null;

  constructor(items: Item[], next: string | null) {
    this.items = items;
    this.next = next;
  }

  /** As JSON, with a digest that is another one for another text. */
  get shown(): Shown {
    const items = this.items.map(shownOf);
    const next = JSON.stringify(this.next);
    return {
      text: `{"items":[${items.map(({ text }) => text).join()}],"next":${next}}`,
      digest: digestOf(`${items.map(({ digest }) => digest).join()} ${next}`),
    };
  }
}
