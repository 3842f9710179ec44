import { z } from "zod";
import {
  type AuditEntry,
  type AuditEvent,
  auditBaseSchema,
  type Decider,
} from "../../protocol/messages/audit.ts";
import { applyChanges, type Change, changeSchema } from "./change.ts";

/** Why state changes: what happened, through whom, and the reason for people. */
export interface Decision {
  readonly who: Decider;
  readonly subject: string;
  readonly event: AuditEvent;
  readonly reason: string;
  readonly isNews: boolean;
}

/** Raised when an entry changes its meaning. */
export const logFormat = 1 as const;

/**
 * One entry of the log. It holds what the decision came to, not what it was made from: a later release, which may decide
 * otherwise, replays it to the same state.
 */
export const decisionEntrySchema = auditBaseSchema.extend({
  format: z.literal(logFormat),
  /** By key of the store. */
  changes: z.array(z.object({ key: z.string(), changes: z.array(changeSchema) })),
});
export type DecisionEntry = z.infer<typeof decisionEntrySchema>;

/** Records by key, as plain values. */
export type RecordedState = Map<string, unknown>;

/** The state after one more decision; changes `state`. */
export function replayEntry(
  state: RecordedState,
  { changes: records }: Pick<DecisionEntry, "changes">,
): void {
  for (const { key, changes } of records) {
    const after = applyChanges(state.get(key), changes);
    if (after === undefined) state.delete(key);
    else state.set(key, after);
  }
}

export function auditEntry({ changes, format: _, ...base }: DecisionEntry): AuditEntry {
  return { ...base, decision: changes.map(({ key, changes }) => describeChange(key, changes)) };
}

function describeChange(key: string, changes: readonly Change[]): AuditEntry["decision"][number] {
  const whole = changes.find(({ path }) => path.length === 0);
  if (whole) return { record: `${"removed" in whole ? "-" : "+"}${key}`, fields: [] };
  return { record: key, fields: [...new Set(changes.map(({ path }) => String(path[0])))] };
}
