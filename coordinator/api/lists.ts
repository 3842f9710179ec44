import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DeploymentView, JobView, PeerView, VersionView } from "../../protocol/messages/api.ts";
import type { DatasetView } from "../../protocol/messages/dataset.ts";
import type { SweepSummary } from "../../protocol/messages/sweep.ts";
import type { Coordinator } from "../coordinator.ts";

/** Where an item stands in its list, compared from the front. Two items never stand at one place. */
type Place = readonly (string | number)[];

export interface List<Item> {
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
  key: ({ peerId }) => peerId,
  place: ({ name, peerId }) => [name, peerId],
  facts: ({ state }) => ({ state }),
};

const jobs: List<JobView> = {
  all: (coordinator) => coordinator.jobs(),
  key: ({ id }) => id,
  place: ({ id }) => [Number(/\d+$/.exec(id)![0])],
  facts: ({ state, spec }) => ({ state, name: spec.name }),
};

const models: List<VersionView> = {
  all: (coordinator) => coordinator.versions(),
  key: ({ name, version }) => `${name}@${version}`,
  place: ({ name, version }) => [name, version],
  facts: ({ name, jobId }) => ({ name, jobId }),
};

const deployments: List<DeploymentView> = {
  all: (coordinator) => coordinator.deployments(),
  key: ({ deployment }) => String(deployment),
  place: ({ deployment }) => [deployment],
  facts: ({ name, state }) => ({ name, state }),
};

const datasets: List<DatasetView> = {
  all: (coordinator) => coordinator.datasets(),
  key: ({ name, version }) => `${name}@${version}`,
  place: ({ name, version }) => [name, version],
  facts: ({ name }) => ({ name }),
};

const sweeps: List<SweepSummary> = {
  all: (coordinator) => coordinator.sweeps(),
  key: ({ id }) => id,
  place: ({ id }) => [Number(/\d+$/.exec(id)![0])],
  facts: ({ state, name }) => ({ state, name }),
};

export const lists = { peers, jobs, sweeps, models, deployments, datasets } as const;

export interface ListQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** Facts that items must have. */
  readonly [fact: string]: string | number | undefined;
}

/**
 * One page, in order.
 * @returns `next`: the cursor of the following page; null after the last item
 * @throws RingfoldError REQUEST_INVALID for a cursor that is none of ours
 * Cost: O(n log n) for n items.
 */
export function pageOf<Item>(
  list: List<Item>,
  coordinator: Coordinator,
  { limit, cursor, ...wanted }: ListQuery,
): { items: Item[]; next: string | null } {
  const after = cursor === undefined ? undefined : readCursor(cursor);
  const isNext = (item: Item) => after === undefined || compare(list.place(item), after) > 0;
  const following = list.all(coordinator).filter((item) => isNext(item) && hasFacts(list, item, wanted));
  const items = inOrder(list, following).slice(0, limit);
  return { items, next: following.length > limit ? writeCursor(list.place(items.at(-1)!)) : null };
}

export const inOrder = <Item>(list: List<Item>, items: readonly Item[]): Item[] =>
  items
    .map((item) => ({ item, place: list.place(item) }))
    .sort((one, other) => compare(one.place, other.place))
    .map(({ item }) => item);

export function hasFacts<Item>(
  list: List<Item>,
  item: Item,
  wanted: Readonly<Record<string, string | number | undefined>>,
): boolean {
  const facts = list.facts(item);
  return Object.entries(wanted).every(([name, value]) => value === undefined || facts[name] === value);
}

/** The log of decisions, which has pages as lists have: it only grows, and is read from the store. */
export function pageOfDecisions(coordinator: Coordinator, { limit, cursor, ...wanted }: DecisionQuery) {
  const after = cursor === undefined ? 0 : sequenceSchema.parse(readCursor(cursor)[0]);
  const { entries, next, last } = coordinator.audit({ after, limit, ...wanted });
  return { items: entries, next: next < last ? writeCursor([next]) : null };
}

interface DecisionQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly sinceMs?: number | undefined;
  readonly job?: string | undefined;
}

function compare(one: Place, other: Place): number {
  for (const [i, mine] of one.entries()) {
    const theirs = other[i];
    if (mine === theirs) continue;
    return theirs === undefined || mine > theirs ? 1 : -1;
  }
  return 0;
}

const sequenceSchema = z.number().int().nonnegative().catch(0);
const placeSchema = z.array(z.union([z.string(), z.number()])).max(4);

const writeCursor = (place: Place): string => Buffer.from(JSON.stringify(place)).toString("base64url");

function readCursor(cursor: string): Place {
  try {
    return placeSchema.parse(JSON.parse(Buffer.from(cursor, "base64url").toString()));
  } catch (cause) {
    throw new RingfoldError(
      "REQUEST_INVALID",
      "the cursor is not one that a page ended with",
      { remedy: "Begin with the first page, without a cursor." },
      { cause },
    );
  }
}
