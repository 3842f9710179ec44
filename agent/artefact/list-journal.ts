import { randomBytes } from "node:crypto";
import type { RootDatabase } from "lmdb";
import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { digestSchema } from "../../protocol/ids.ts";
import { limits } from "../../protocol/limits.ts";
import type { Holdings } from "../../protocol/messages/artefact.ts";

type Change = Holdings["recent"][number];

const stateSchema = z.object({ store: z.string(), revision: z.number().int().nonnegative() });
const changeSchema = z.object({ digest: digestSchema, held: z.boolean() });
const stateKey = "journal/state";
const changeKey = (revision: number): string => `journal/change/${String(revision).padStart(12, "0")}`;

/** The last changes of the list of a store, written in the transactions that make them: trainers write to it, too. */
export interface ListJournal {
  /** Within a transaction. */
  note(change: Change): void;
  holdings(): Holdings;
}

export function openListJournal(database: RootDatabase<Buffer, string>): ListJournal {
  const read = <T>(key: string, schema: z.ZodType<T>): T | undefined => {
    const bytes = database.get(key);
    return bytes && decode(bytes, schema, limits.controlMessageBytes);
  };
  if (!database.get(stateKey)) {
    // Of an earlier release, it may be full: revision 0 would say that nothing is here.
    const isEmpty = [...database.getKeys({ start: "head/", end: "head0", limit: 1 })].length === 0;
    const state = { store: randomBytes(8).toString("hex"), revision: isEmpty ? 0 : 1 };
    database.putSync(stateKey, Buffer.from(encode(state)));
  }
  const state = () => read(stateKey, stateSchema)!;
  let known: Holdings | undefined;

  return {
    note: (change) => {
      const { store, revision } = state();
      void database.put(changeKey(revision + 1), Buffer.from(encode(change)));
      void database.remove(changeKey(revision + 1 - limits.changesTold));
      void database.put(stateKey, Buffer.from(encode({ store, revision: revision + 1 })));
    },
    holdings: () => {
      const { store, revision } = state();
      if (known?.revision === revision) return known;
      const first = Math.max(1, revision - limits.changesTold + 1);
      const recent: Change[] = [];
      for (let each = revision; each >= first; each--) {
        const change = read(changeKey(each), changeSchema);
        if (!change) break; // of a release that told none
        recent.unshift(change);
      }
      known = { store, revision, recent };
      return known;
    },
  };
}
