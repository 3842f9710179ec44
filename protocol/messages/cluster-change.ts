import { z } from "zod";
import { clusterViewSchema } from "./api.ts";

/** What has changed in the view of a cluster since the event before: of ten thousand versions, which are megabytes, few move. */

export const changesOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    put: z.array(item),
    /** By their keys. */
    removed: z.array(z.string()),
  });

const { shape } = clusterViewSchema;

export const clusterChangeSchema = z.object({
  nowMs: z.number(),
  peers: changesOf(shape.peers.element).optional(),
  jobs: changesOf(shape.jobs.element).optional(),
  versions: changesOf(shape.versions.element).optional(),
  deployments: changesOf(shape.deployments.element).optional(),
  sweeps: changesOf(shape.sweeps.unwrap().element).optional(),
  rollouts: changesOf(shape.rollouts.unwrap().element).optional(),
  /** New ones, newest last. */
  events: shape.events,
});

export type ClusterChange = z.infer<typeof clusterChangeSchema>;

/** Events that a view holds. */
export const eventsShown = 100;

/** How an item of each list is named: here, and where that list is watched by itself. */
export const clusterKeys = {
  peers: ({ peerId }: { readonly peerId: string }) => peerId,
  jobs: ({ id }: { readonly id: string }) => id,
  versions: ({ name, version }: { readonly name: string; readonly version: number }) => `${name}@${version}`,
  deployments: ({ deployment }: { readonly deployment: number }) => String(deployment),
  sweeps: ({ id }: { readonly id: string }) => id,
  rollouts: ({ name }: { readonly name: string }) => name,
} as const;
export type ClusterList = keyof typeof clusterKeys;

/** What a view has of lists; the dashboard's differs from the coordinator's in numbers that may be missing. */
type Lists = { [Key in ClusterList]: Parameters<(typeof clusterKeys)[Key]>[0][] } & {
  nowMs: number;
  events: object[];
};
type ChangeOf<View extends Lists> = Pick<View, "nowMs" | "events"> & {
  [Key in ClusterList]?: { put: View[Key]; removed: string[] } | undefined;
};

/** The view after a change. Items keep their places, new ones come last, and lists that have not changed are the same objects. */
export function applyClusterChange<View extends Lists>(view: View, change: ChangeOf<View>): View {
  const { nowMs, events } = change;
  const after = { ...view, nowMs };
  if (events.length > 0) after.events = [...view.events, ...events].slice(-eventsShown);
  for (const list of Object.keys(clusterKeys) as ClusterList[]) changeList(after, change, list);
  return after;
}

function changeList<View extends Lists, Key extends ClusterList>(
  view: View,
  change: ChangeOf<View>,
  list: Key,
) {
  const { put, removed } = change[list] ?? { put: [], removed: [] };
  if (put.length + removed.length === 0) return;
  const keyOf = clusterKeys[list] as (item: View[Key][number]) => string;
  const all = new Map(view[list].map((item) => [keyOf(item), item]));
  for (const item of put) all.set(keyOf(item), item);
  for (const key of removed) all.delete(key);
  view[list] = [...all.values()] as View[Key];
}
