import { z } from "zod";
import { nameSchema } from "../../protocol/ids.ts";
import type { PruneAnswer } from "../../protocol/messages/api.ts";
import type { References } from "./references.ts";

export const retentionRuleSchema = z.object({
  /** Of the model. */
  name: nameSchema,
  keepLast: z.number().int().nonnegative(),
  keepForDays: z.number().int().positive().nullable(),
});
export type RetentionRule = z.infer<typeof retentionRuleSchema>;

const dayMs = 24 * 3_600_000;

/** For people: what stays by itself. */
export function ruleText({ keepLast, keepForDays }: Omit<RetentionRule, "name">): string {
  const newest = keepLast === 1 ? "the newest version" : `the newest ${keepLast} versions`;
  const young = keepForDays === null ? "" : `, those younger than ${keepForDays} days`;
  return `keeps ${newest}${young} and what is needed`;
}

/** A version that is there. */
interface Present {
  readonly version: number;
  readonly createdAtMs: number;
}

/**
 * Which versions of a name go: none of the newest, none that is too young, and never one that something needs.
 * @param present those that are not removed, in order
 */
export function decideRetention(
  present: readonly Present[],
  { keepLast, keepForDays }: Omit<RetentionRule, "name">,
  references: References,
  nowMs: number,
): PruneAnswer {
  const removed: number[] = [];
  const kept: PruneAnswer["kept"] = [];
  for (const { version, createdAtMs } of present.slice(0, Math.max(0, present.length - keepLast))) {
    const untilMs = keepForDays === null ? nowMs : createdAtMs + keepForDays * dayMs;
    const young = nowMs < untilMs ? `it stays until ${new Date(untilMs).toISOString()}` : undefined;
    const reason = references.get(version) ?? young;
    if (reason === undefined) removed.push(version);
    else kept.push({ version, reason });
  }
  return { removed, kept };
}
