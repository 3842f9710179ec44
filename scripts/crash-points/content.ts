import type { Decision } from "../../coordinator/decide/decision.ts";
import { collections } from "../../coordinator/state.ts";
import type { StoreWrite } from "../../protocol/ports.ts";

/** Numbered decisions: who knows the number knows what it changes. Records come, change and go. */
const recordCount = 7;
/** So few that the log goes over into its snapshot again and again. */
export const decisionsKept = 40;

export const decisionOf = (
  number: number,
): { readonly decision: Decision; readonly writes: StoreWrite[] } => ({
  decision: {
    ...{ who: { kind: "operator" }, subject: `decision ${number}`, isNews: false },
    ...{ event: { kind: "job-submitted", jobId: `job-${number}` }, reason: "x".repeat(number % 3_000) },
  },
  writes: [
    collections.counters.put(`of-${number % recordCount}`, number),
    collections.counters.put("newest", number),
    ...(number % 5 === 0 ? [collections.counters.remove(`of-${(number + 3) % recordCount}`)] : []),
  ],
});

/** The counters after so many decisions, by key of the store. */
export function stateAfter(number: number): Map<string, number> {
  const state = new Map<string, number>();
  // Older decisions have been overwritten by these.
  for (let i = Math.max(1, number - 5 * recordCount); i <= number; i++) {
    state.set(`counter/of-${i % recordCount}`, i);
    state.set("counter/newest", i);
    if (i % 5 === 0) state.delete(`counter/of-${(i + 3) % recordCount}`);
  }
  return state;
}
