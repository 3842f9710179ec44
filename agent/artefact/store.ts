import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { open, type RootDatabase } from "lmdb";
import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Holdings } from "../../protocol/messages/artefact.ts";
import { openListJournal } from "./list-journal.ts";

/**
 * Content-addressed bytes of one agent, in LMDB, cut into chunks so that a peer can read a part and a large value needs
 * no contiguous pages. Trainer process and agent open the same store: LMDB is safe across processes.
 */
export interface ArtefactStore {
  /**
   * Durable when it resolves. Returns the SHA-256.
   * @param options an unlisted artefact is a part of another one, or only passes through: peers may read it, and are not
   *   told of it
   * @throws RingfoldError STORE_FAILED
   */
  put(bytes: Uint8Array, options?: { readonly listed: boolean }): Promise<string>;
  /** @throws RingfoldError ARTEFACT_MISSING | ARTEFACT_CORRUPT */
  get(digest: string): Uint8Array;
  /** Bytes of the artefact, or undefined when it is not here. */
  stat(digest: string): number | undefined;
  /** @throws RingfoldError ARTEFACT_MISSING */
  readChunk(digest: string, chunkIndex: number): Uint8Array;
  remove(digest: string): Promise<void>;
  /** Without the unlisted, in order; those after one of them, at most so many. */
  list(part?: { readonly after: string | null; readonly max: number }): string[];
  /** All that are not listed, in order. */
  unlisted(): string[];
  /** Whether it is here, and listed. */
  lists(digest: string): boolean;
  /** How the list has changed, also by other processes. Cost: one read unless it has. */
  holdings(): Holdings;
  /** Moves a name to a digest, durable when it resolves; names keep what must be found again after a restart. */
  setName(name: string, reference: NamedReference): Promise<void>;
  resolveName(name: string): NamedReference | undefined;
  /** All that are set. */
  names(): ReadonlyMap<string, NamedReference>;
  /** What it refers to stays. */
  removeName(name: string): Promise<void>;
  close(): Promise<void>;
}

const namedReferenceSchema = z.object({
  digest: z.string(),
  step: z.number().int().nonnegative(),
  /** Of a checkpoint: in which generation it was written, and of what; none of an earlier release, or one that was fetched. */
  written: z.object({ generation: z.number().int().positive(), hash: z.string() }).optional(),
});
export type NamedReference = z.infer<typeof namedReferenceSchema>;

const headSchema = z.object({ bytes: z.number(), chunks: z.number() });
/** Address space, not disk: LMDB maps the file and it grows as needed. */
const mapBytes = 64 * 1024 ** 3;

export function openArtefactStore(path: string): ArtefactStore {
  const database = openDatabase(path);
  const journal = openListJournal(database);
  const head = (digest: string) => {
    const bytes = database.get(`head/${digest}`) ?? database.get(`part/${digest}`);
    return bytes && decode(bytes, headSchema, limits.controlMessageBytes);
  };
  const missing = (digest: string) =>
    new RingfoldError("ARTEFACT_MISSING", `no artefact ${digest} here`, { digest });
  const readChunk = (digest: string, chunkIndex: number): Uint8Array => {
    const chunk = database.get(chunkKey(digest, chunkIndex));
    if (!chunk) throw missing(digest);
    return chunk;
  };

  return {
    put: async (bytes, { listed } = { listed: true }) => {
      const digest = sha256(bytes);
      if (database.get(`head/${digest}`) || (!listed && head(digest))) return digest;
      const chunks = Math.ceil(bytes.byteLength / limits.artefactChunkBytes);
      await durably(database, () => {
        for (let i = 0; i < chunks; i++) {
          const start = i * limits.artefactChunkBytes;
          void database.put(
            chunkKey(digest, i),
            Buffer.from(bytes.subarray(start, start + limits.artefactChunkBytes)),
          );
        }
        const value = Buffer.from(encode({ bytes: bytes.byteLength, chunks }));
        void database.put(`${listed ? "head" : "part"}/${digest}`, value);
        if (!listed) return;
        void database.remove(`part/${digest}`);
        journal.note({ digest, held: true });
      });
      return digest;
    },
    get: (digest) => {
      const found = head(digest);
      if (!found) throw missing(digest);
      const bytes = Buffer.concat(Array.from({ length: found.chunks }, (_, i) => readChunk(digest, i)));
      if (sha256(bytes) !== digest) {
        throw new RingfoldError("ARTEFACT_CORRUPT", `artefact ${digest} does not match its digest`, {
          digest,
        });
      }
      return bytes;
    },
    stat: (digest) => head(digest)?.bytes,
    readChunk,
    remove: async (digest) => {
      const found = head(digest);
      if (!found) return;
      await durably(database, () => {
        if (database.get(`head/${digest}`)) journal.note({ digest, held: false });
        void database.remove(`head/${digest}`);
        void database.remove(`part/${digest}`);
        for (let i = 0; i < found.chunks; i++) void database.remove(chunkKey(digest, i));
      });
    },
    list: ({ after, max } = { after: null, max: Number.MAX_SAFE_INTEGER }) => {
      const start = after === null ? "head/" : `head/${after}~`; // behind it: `~` is above all that digests are made of
      return [...database.getKeys({ start, end: "head0", limit: max })].map((key) => String(key).slice(5));
    },
    unlisted: () =>
      [...database.getKeys({ start: "part/", end: "part0" })].map((key) => String(key).slice("part/".length)),
    lists: (digest) => database.get(`head/${digest}`) !== undefined,
    holdings: journal.holdings,
    setName: (name, reference) =>
      durably(database, () => void database.put(`name/${name}`, Buffer.from(encode(reference)))),
    resolveName: (name) => {
      const bytes = database.get(`name/${name}`);
      return bytes && decode(bytes, namedReferenceSchema, limits.controlMessageBytes);
    },
    names: () =>
      new Map(
        [...database.getRange({ start: "name/", end: "name0" })].map(({ key, value }) => [
          key.slice("name/".length),
          decode(value, namedReferenceSchema, limits.controlMessageBytes),
        ]),
      ),
    removeName: (name) => durably(database, () => void database.remove(`name/${name}`)),
    close: () => database.close(),
  };
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const chunkKey = (digest: string, chunkIndex: number): string =>
  `chunk/${digest}/${String(chunkIndex).padStart(6, "0")}`;

function openDatabase(path: string): RootDatabase<Buffer, string> {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return open({ path, encoding: "binary", mapSize: mapBytes });
  } catch (cause) {
    throw new RingfoldError("STORE_FAILED", `cannot open the store at ${path}`, { path }, { cause });
  }
}

/** One transaction, flushed to disk before it resolves. */
async function durably(database: RootDatabase<Buffer, string>, writes: () => void): Promise<void> {
  try {
    await database.childTransaction(writes); // all of it or, when a write fails, nothing
    await database.flushed;
  } catch (cause) {
    throw toRingfoldError(cause, "STORE_FAILED");
  }
}
