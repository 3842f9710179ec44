import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DeploymentView, JobView, PeerView, VersionView } from "../../protocol/messages/api.ts";
import { clusterKeys } from "../../protocol/messages/cluster-change.ts";
import type { DatasetView } from "../../protocol/messages/dataset.ts";
import type { DocumentView } from "../../protocol/messages/document.ts";
import type { QuotaView } from "../../protocol/messages/quota.ts";
import type { RetentionView } from "../../protocol/messages/retention.ts";
import type { RolloutView } from "../../protocol/messages/rollout.ts";
import type { SweepSummary } from "../../protocol/messages/sweep.ts";
import type { AuditFilter } from "../decide/audit-filter.ts";
import type { Coordinator } from "../port.ts";
import { Page } from "./shown.ts";

/** Where an item stands in its list, compared from the front. Two items never stand at one place. */
type Place = readonly (string | number)[];

export interface List<Item extends object> {
  all(coordinator: Coordinator): readonly Item[];
  /** Its name among the items of the list. */
  key(item: Item): string;
  /** It never changes while the item exists, so that a cursor keeps its meaning. */
  place(item: Item): Place;
  /** What a query may ask for. */
  facts(item: Item): Readonly<Record<string, string>>;
}

const peers: List<PeerView> = {
  all: (coordinator) => coordinator.peers(),
  key: clusterKeys.peers,
  place: ({ name, peerId }) => [name, peerId],
  facts: ({ state }) => ({ state }),
};

const jobs: List<JobView> = {
  all: (coordinator) => coordinator.jobs(),
  key: clusterKeys.jobs,
  place: ({ id }) => [Number(/\d+$/.exec(id)![0])],
  facts: ({ id, state, spec: { name, project } }) => ({ id, state, name, project }),
};

const models: List<VersionView> = {
  all: (coordinator) => coordinator.versions(),
  key: clusterKeys.versions,
  place: ({ name, version }) => [name, version],
  facts: ({ name, jobId }) => ({ name, jobId }),
};

const deployments: List<DeploymentView> = {
  all: (coordinator) => coordinator.deployments(),
  key: clusterKeys.deployments,
  place: ({ deployment }) => [deployment],
  facts: ({ name, state }) => ({ name, state }),
};

const datasets: List<DatasetView> = {
  all: (coordinator) => coordinator.datasets(),
  key: ({ name, version }) => `${name}@${version}`,
  place: ({ name, version }) => [name, version],
  facts: ({ name }) => ({ name }),
};

const documents: List<DocumentView> = {
  all: (coordinator) => coordinator.documents(),
  key: ({ kind, name, version }) => `${kind} ${name}@${version}`,
  place: ({ kind, name, version }) => [kind, name, version],
  facts: ({ kind, name, digest }) => ({ kind, name, digest }),
};

const sweeps: List<SweepSummary> = {
  all: (coordinator) => coordinator.sweeps(),
  key: clusterKeys.sweeps,
  place: ({ id }) => [Number(/\d+$/.exec(id)![0])],
  facts: ({ state, name }) => ({ state, name }),
};

const quotas: List<QuotaView> = {
  all: (coordinator) => coordinator.quotas(),
  key: ({ project }) => project,
  place: ({ project }) => [project],
  facts: ({ project }) => ({ project }),
};

const rollouts: List<RolloutView> = {
  all: (coordinator) => coordinator.rollouts(),
  key: ({ name }) => name,
  place: ({ name }) => [name],
  facts: ({ name, state }) => ({ name, state }),
};

const retentionRules: List<RetentionView> = {
  all: (coordinator) => coordinator.retentionRules(),
  key: ({ name }) => name,
  place: ({ name }) => [name],
  facts: ({ name }) => ({ name }),
};

export const lists = {
  peers,
  jobs,
  quotas,
  sweeps,
  models,
  deployments,
  rollouts,
  datasets,
  documents,
  retentionRules,
} as const;

export interface ListQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** Facts that items must have. */
  readonly [fact: string]: string | number | undefined;
}

/**
 * One page, in order.
 * @throws RingfoldError REQUEST_INVALID for a cursor that is none of ours
 * Cost: O(n log n) for n items; for a list that is the same array as before, or is asked for with the same items, the page alone.
 */
export function pageOf<Item extends object>(
  list: List<Item>,
  coordinator: Coordinator,
  { limit, cursor, ...wanted }: ListQuery,
): Page<Item> {
  const after = cursor === undefined ? undefined : readCursor(cursor);
  const all = placed(list, withFacts(list, list.all(coordinator), wanted));
  const begin = after === undefined ? 0 : countUpTo(all, after);
  const page = all.slice(begin, begin + limit);
  const isLast = begin + limit >= all.length;
  return new Page(
    page.map(({ item }) => item),
    isLast ? null : writeCursor(page.at(-1)!.place),
  );
}

/** How many stand at this place or before it. @param all in order */
function countUpTo(all: readonly Placed<unknown>[], place: Place): number {
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(all[middle]!.place, place) > 0) high = middle;
    else low = middle + 1;
  }
  return low;
}

export const inOrder = <Item extends object>(list: List<Item>, items: readonly Item[]): Item[] =>
  placed(list, items).map(({ item }) => item);

interface Placed<Item> {
  readonly item: Item;
  readonly place: Place;
}

/** What was put in order last, by list: ten thousand versions are read page after page, and are the same each time. */
const placedLast = new WeakMap<object, { readonly items: readonly unknown[]; readonly placed: unknown }>();

function placed<Item extends object>(list: List<Item>, items: readonly Item[]): readonly Placed<Item>[] {
  const last = placedLast.get(list);
  if (last && (last.items === items || isSame(last.items, items)))
    return last.placed as readonly Placed<Item>[];
  const ordered = items
    .map((item) => ({ item, place: list.place(item) }))
    .sort((one, other) => compare(one.place, other.place));
  placedLast.set(list, { items, placed: ordered });
  return ordered;
}

const isSame = (one: readonly unknown[], other: readonly unknown[]): boolean =>
  one.length === other.length && one.every((item, i) => item === other[i]);

type Wanted = Readonly<Record<string, string | number | undefined>>;

export const hasFacts = <Item extends object>(list: List<Item>, item: Item, wanted: Wanted): boolean =>
  withFacts(list, [item], wanted).length > 0;

function withFacts<Item extends object>(
  list: List<Item>,
  items: readonly Item[],
  wanted: Wanted,
): readonly Item[] {
  const demands = Object.entries(wanted).filter(([, value]) => value !== undefined);
  if (demands.length === 0) return items;
  return items.filter((item) => {
    const facts = list.facts(item);
    return demands.every(([name, value]) => facts[name] === value);
  });
}

/** The log of decisions, which has pages as lists have: it only grows, and is read from the store. */
export function pageOfDecisions(coordinator: Coordinator, { limit, cursor, ...wanted }: DecisionQuery) {
  const [after] = cursor === undefined ? [0] : readCursor(cursor);
  if (typeof after !== "number") throw foreignCursor();
  const { entries, next, last } = coordinator.audit({ after, limit, ...wanted });
  return { items: entries, next: next < last ? writeCursor([next]) : null };
}

interface DecisionQuery extends AuditFilter {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

function compare(one: Place, other: Place): number {
  for (let i = 0; i < one.length; i++) {
    const [mine, theirs] = [one[i]!, other[i]];
    if (mine !== theirs) return theirs === undefined || mine > theirs ? 1 : -1;
  }
  return 0;
}

const placeSchema = z.array(z.union([z.string(), z.number().nonnegative()])).max(4);

const writeCursor = (place: Place): string => Buffer.from(JSON.stringify(place)).toString("base64url");

function readCursor(cursor: string): Place {
  try {
    return placeSchema.parse(JSON.parse(Buffer.from(cursor, "base64url").toString()));
  } catch (cause) {
    throw foreignCursor(cause);
  }
}

const foreignCursor = (cause?: unknown): RingfoldError =>
  new RingfoldError(
    "REQUEST_INVALID",
    "the cursor is not one that a page of this list ended with",
    { remedy: "Begin with the first page, without a cursor." },
    { cause },
  );
