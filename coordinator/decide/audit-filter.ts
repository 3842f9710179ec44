import type { AuditEvent, Decider } from "../../protocol/messages/audit.ts";
import type { DecisionEntry } from "./decision.ts";

/** Which decisions a reader wants; what is not told is any. */
export interface AuditFilter {
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  readonly job?: string | undefined;
  /** `operator`, `coordinator`, `peer`, or the name or id of a peer. */
  readonly who?: string | undefined;
  /** A part of it. */
  readonly subject?: string | undefined;
  readonly kind?: AuditEvent["kind"] | undefined;
}

export const isWanted = (
  { atMs, who, subject, event }: Pick<DecisionEntry, "atMs" | "who" | "subject" | "event">,
  wanted: AuditFilter,
): boolean =>
  atMs >= (wanted.sinceMs ?? 0) &&
  atMs <= (wanted.untilMs ?? Number.POSITIVE_INFINITY) &&
  (wanted.job === undefined || ("jobId" in event && event.jobId === wanted.job)) &&
  (wanted.who === undefined || namesOf(who).includes(wanted.who)) &&
  (wanted.subject === undefined || subject.includes(wanted.subject)) &&
  (wanted.kind === undefined || event.kind === wanted.kind);

const namesOf = (who: Decider): readonly string[] =>
  who.kind === "peer" ? [who.kind, who.name, who.peerId] : [who.kind];
