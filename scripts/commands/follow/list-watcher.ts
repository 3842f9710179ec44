import { z } from "zod";
import {
  type ApiConnection,
  foreignAnswer,
  type ItemOf,
  type ListName,
  openEvents,
  transportError,
} from "../../../protocol/api/client.ts";
import type { InputOfRoute } from "../../../protocol/api/route.ts";
import { type RouteName, type Routes, routes } from "../../../protocol/api/routes.ts";
import { parseJson } from "../../../protocol/http.ts";
import { readEventStream, type ServerEvent } from "./event-stream.ts";

/** What a watched list tells at once. */
export interface ListNews<Item> {
  /** All there is, what has changed, or nothing for a while. */
  readonly kind: "snapshot" | "change" | "quiet";
  readonly items: readonly Item[];
  /** Keys. */
  readonly removed: readonly string[];
  /** To go on from, after an interruption. */
  readonly id: string;
}

export type FiltersOf<Name extends ListName> =
  InputOfRoute<Routes[Name]> extends { query?: infer Query }
    ? Omit<NonNullable<Query>, "limit" | "cursor">
    : object;

interface From {
  readonly signal: AbortSignal;
  readonly lastEventId?: string | undefined;
}

/** @throws RingfoldError as `callRoute`; MESSAGE_INVALID for what this release does not understand */
export async function* watchList<Name extends ListName>(
  connection: ApiConnection,
  name: Name,
  filters: FiltersOf<Name>,
  from: From,
): AsyncGenerator<ListNews<ItemOf<Name>>> {
  const items = routes[name].answer.shape.items as unknown as z.ZodType<ItemOf<Name>[]>;
  const snapshot = z.object({ items });
  const change = z.object({ put: items, removed: z.array(z.string()) });
  const input = { query: filters } as InputOfRoute<Routes[Name]>;
  for await (const { event, data, id } of streamEvents(connection, name, input, from)) {
    if (event === "snapshot") {
      yield { kind: event, items: readEventData(connection, snapshot, data).items, removed: [], id };
    } else if (event === "change") {
      const { put, removed } = readEventData(connection, change, data);
      yield { kind: event, items: put, removed, id };
    } else yield { kind: "quiet", items: [], removed: [], id };
  }
}

export async function* streamEvents<Name extends RouteName>(
  options: ApiConnection,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
  { signal, lastEventId }: From,
): AsyncGenerator<ServerEvent> {
  const connection = { ...options, signal: AbortSignal.any([options.signal, signal]) };
  try {
    yield* readEventStream(await openEvents(connection, name, input, lastEventId));
  } catch (cause) {
    throw transportError(cause, connection);
  }
}

/** @throws RingfoldError MESSAGE_INVALID */
export function readEventData<T>({ coordinators }: ApiConnection, schema: z.ZodType<T>, data: string): T {
  const result = schema.safeParse(parseJson(data));
  if (result.success) return result.data;
  throw foreignAnswer(coordinators.url, z.prettifyError(result.error));
}
