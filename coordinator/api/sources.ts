import type { Context } from "hono";
import type { ClusterList } from "../../protocol/messages/cluster-change.ts";
import type { AuditFilter } from "../decide/audit-filter.ts";
import type { Coordinator } from "../port.ts";
import type { EventSource } from "./event-streams.ts";

export const acceptsEvents = (c: Context): boolean =>
  /(^|,)\s*text\/event-stream\s*(;|,|$)/i.test(c.req.header("accept") ?? "");

/** The lists that a view of the cluster has, as they are watched. */
type WatchedLists = Readonly<
  Record<ClusterList, { watch(wanted: object, lastEventId: undefined): EventSource }>
>;

/**
 * `cluster` with everything at once, then `change` with what has changed since. What a reader has read is kept as one number for each
 * list (`WatchedList`), so that one that was slow gets the newest state of what it has missed.
 */
export function wholeCluster(coordinator: Coordinator, lists: WatchedLists): EventSource {
  const names = Object.keys(lists) as ClusterList[];
  let seen: { readonly lists: (readonly [ClusterList, EventSource])[]; lastEvent: number } | undefined;
  const everything = () => {
    const data = coordinator.view();
    const watched = names.map((name) => [name, lists[name].watch({}, undefined)] as const);
    for (const [, source] of watched) source.news(); // it begins with all that the view has
    seen = { lists: watched, lastEvent: data.events.at(-1)?.sequence ?? 0 };
    return [{ event: "cluster", data }];
  };
  const changes = (since: NonNullable<typeof seen>) => {
    const { nowMs, events } = coordinator.now();
    const fresh = events.filter(({ sequence }) => sequence > since.lastEvent);
    since.lastEvent = fresh.at(-1)?.sequence ?? since.lastEvent;
    const told = since.lists.flatMap(([name, source]) =>
      [...source.news()].map((news) => ({ name, ...news })),
    );
    // So much has gone that it cannot be told any more what.
    if (told.some(({ event }) => event === "snapshot")) return everything();
    const lists = Object.fromEntries(told.map(({ name, data }) => [name, data]));
    return [{ event: "change", data: { nowMs, ...lists, events: fresh } }];
  };
  return {
    news: () => (seen ? changes(seen) : everything()),
    quiet: () => ({ event: "change", data: { nowMs: coordinator.now().nowMs, events: [] } }),
  };
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
