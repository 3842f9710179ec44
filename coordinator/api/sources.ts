import type { Context } from "hono";
import type { AuditFilter } from "../decide/audit-filter.ts";
import type { Coordinator } from "../port.ts";
import type { EventSource } from "./event-streams.ts";

export const acceptsEvents = (c: Context): boolean =>
  /(^|,)\s*text\/event-stream\s*(;|,|$)/i.test(c.req.header("accept") ?? "");

/** `cluster` with everything at once. */
export function wholeCluster(coordinator: Coordinator): EventSource {
  const view = () => ({ event: "cluster", data: coordinator.view() });
  return { news: () => [view()], quiet: view };
}

/** Decisions in one event. */
const decisionsMax = 200;

/** `change` with the decisions after the one that `lastEventId` names, else from the first on, each once. */
export function decisions(
  coordinator: Coordinator,
  wanted: AuditFilter,
  lastEventId: string | undefined,
): EventSource {
  let after = /^\d{1,15}$/.test(lastEventId ?? "") ? Number(lastEventId) : 0;
  return {
    *news() {
      for (let last = Number.POSITIVE_INFINITY; after < last; ) {
        const page = coordinator.audit({ ...wanted, after, limit: decisionsMax });
        after = page.next;
        last = page.last;
        if (page.entries.length > 0)
          yield { event: "change", id: String(after), data: { put: page.entries, removed: [] } };
      }
    },
    quiet: () => ({ event: "quiet", id: String(after), data: {} }),
  };
}
