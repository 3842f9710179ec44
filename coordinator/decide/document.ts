import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import { digestSchema, nameSchema } from "../../protocol/ids.ts";
import { limits } from "../../protocol/limits.ts";
import { documentKindSchema } from "../../protocol/messages/document.ts";

export const documentRecordSchema = z.object({
  kind: documentKindSchema,
  name: nameSchema,
  version: z.number().int().positive(),
  /** SHA-256 of the content as canonical JSON. */
  digest: digestSchema,
  /** Of that JSON. */
  bytes: z.number().int().nonnegative(),
  /** Null once removed. The record stays: its number is not given again, and lineage still names it. */
  content: z.record(z.string(), z.unknown()).nullable(),
  addedBy: z.string(),
  /** Somebody has asked for it, and so only somebody removes it; what came with work makes room for what comes later. */
  isAsked: z.boolean(),
  createdAtMs: z.number(),
  removedAtMs: z.number().nullable(),
});
export type DocumentRecord = z.infer<typeof documentRecordSchema>;
/** As it is kept in memory: what it says is read when it is asked for. */
export type DocumentEntry = Omit<DocumentRecord, "content">;

export const referenceOf = ({ name, version }: Pick<DocumentEntry, "name" | "version">): string =>
  `${name}@${version}`;

type NewDocument = Omit<DocumentRecord, "version" | "createdAtMs" | "removedAtMs">;

/**
 * The number of a content: that which it has under its name, else the next.
 * @param earlier of its kind and name, in order, those that were removed among them
 * @returns what is to be written; the known one where nothing is
 */
export function decideDocument(
  earlier: readonly DocumentEntry[],
  wanted: NewDocument,
  nowMs: number,
): { readonly known: DocumentEntry } | { readonly record: DocumentRecord; readonly reason: string } {
  const { name, addedBy, isAsked, content } = wanted;
  const known = earlier.find(({ digest, removedAtMs }) => digest === wanted.digest && removedAtMs === null);
  if (known && (known.isAsked || !isAsked)) return { known };
  if (known) {
    const reason = `${referenceOf(known)} is to stay: added by ${addedBy}`;
    return { record: { ...known, content, isAsked }, reason };
  }
  const version = (earlier.at(-1)?.version ?? 0) + 1;
  const record = { ...wanted, version, createdAtMs: nowMs, removedAtMs: null };
  return { record, reason: `${name}@${version} is registered: added by ${addedBy}` };
}

/** How many there may be. */
interface Room {
  readonly count: number;
  readonly bytes: number;
}

/**
 * What has to go so that one more has room: the oldest that came with work and that nothing needs.
 * @param present those that are not removed
 * @param isNeeded whether something refers to one
 * @throws RingfoldError CONFLICT when they are not enough
 */
export function decideRoom(
  present: readonly DocumentEntry[],
  bytes: number,
  isNeeded: (document: DocumentEntry) => boolean,
  room: Room = { count: limits.documentsMax, bytes: limits.documentsBytesMax },
): DocumentEntry[] {
  let left = { count: room.count - present.length - 1, bytes: room.bytes - bytes };
  for (const document of present) left = { ...left, bytes: left.bytes - document.bytes };
  const lacks = () => left.count < 0 || left.bytes < 0;
  const going: DocumentEntry[] = [];
  if (!lacks()) return going;
  for (const document of present.toSorted((one, other) => one.createdAtMs - other.createdAtMs)) {
    if (document.isAsked || isNeeded(document)) continue;
    going.push(document);
    left = { count: left.count + 1, bytes: left.bytes + document.bytes };
    if (!lacks()) return going;
  }
  throw new RingfoldError(
    "CONFLICT",
    `there is no room for one more: ${present.length} pipelines and configurations are registered, and needed`,
    {
      count: present.length,
      remedy: "Remove some: `ringfold configs remove NAME@N`, or versions and data sets that came of them.",
    },
  );
}
