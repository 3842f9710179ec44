import { decode } from "../../protocol/codec.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { eventViewSchema } from "../../protocol/messages/api.ts";
import type { Store, StoreWrite } from "../../protocol/ports.ts";
import { type DecisionEntry, logFormat } from "../decide/decision.ts";
import { beginLog } from "../decision-log.ts";
import { collections, padded } from "../state.ts";

/**
 * Raised when a key changes its meaning; a store of a newer release is refused, not guessed at. 3: a deployment that is not
 * live may be a candidate, which earlier releases would let take over.
 */
export const storeFormat = 3;
export const formatKey = "meta/format";

/** By the format that they start from; each leads to the present one. What has none reads as it is. */
const migrations: Readonly<Record<number, (store: Store) => StoreWrite[]>> = { 1: beginDecisions };

/**
 * Makes a new store one of this release, leads an older one to it in one write, and refuses a newer one untouched.
 * @param place where it is, for people
 * @throws RingfoldError STORE_NEWER | STORE_FAILED
 */
export async function adoptStore(store: Store, place: string): Promise<void> {
  const stored = store.get(formatKey);
  const format = stored === undefined ? storeFormat : Number(new TextDecoder().decode(stored));
  if (!Number.isSafeInteger(format) || format < 1)
    throw new RingfoldError("STORE_FAILED", `${place} is not a store`, { place });
  if (format > storeFormat) {
    throw new RingfoldError(
      "STORE_NEWER",
      `${place} has store format ${format}; this release reads up to ${storeFormat}`,
      { place, format, reads: storeFormat },
    );
  }
  if (stored !== undefined && format === storeFormat) return;
  const marked = { key: formatKey, value: new TextEncoder().encode(String(storeFormat)) };
  await store.write([...(migrations[format]?.(store) ?? []), marked]);
}

/** Format 1 kept events for people, and no decisions: those become entries that change nothing. */
function beginDecisions(store: Store): StoreWrite[] {
  const events = [...store.list("event/")].map(({ key, value }) => ({
    key,
    ...decode(value, eventViewSchema, limits.controlMessageBytes),
  }));
  const before = Math.max(0, (events[0]?.sequence ?? 1) - 1);
  const writes = events.flatMap(({ key, atMs, subject, message }, i) => {
    const sequence = before + 1 + i;
    const entry: DecisionEntry = {
      ...{ format: logFormat, sequence, atMs, term: 0, subject, reason: message, isNews: true },
      ...{ who: { kind: "coordinator" }, event: { kind: "told-before" }, changes: [] },
    };
    return [collections.decisions.put(padded(sequence), entry), { key, value: undefined }];
  });
  return [...beginLog(store, before), ...writes];
}
