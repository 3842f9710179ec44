import { z } from "zod";
import { type ErrorCode, type ErrorData, isErrorCode, RingfoldError } from "../errors.ts";
import { connectionFailure, parseJson, resolveUrl } from "../http.ts";
import { limits } from "../limits.ts";
import { problemSchema } from "../messages/api.ts";
import { type AnswerOf, fillPath, type InputOfRoute, pageItemsMax, type Route } from "./route.ts";
import { type RouteName, type Routes, routes } from "./routes.ts";

/** How the command line and the dashboard reach a coordinator: typed by the table of routes. */

export interface ApiConnection {
  /** Where the coordinator is, as a person wrote it. */
  readonly baseUrl: string;
  readonly operatorToken?: string | undefined;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

/** Names of the routes that answer in pages. */
export type ListName = {
  [Name in RouteName]: AnswerOf<Routes[Name]> extends { items: unknown[]; next: string | null }
    ? Name
    : never;
}[RouteName];

export type ItemOf<Name extends ListName> =
  AnswerOf<Routes[Name]> extends { items: (infer Item)[] } ? Item : never;

/**
 * Asks one route. It ends within `limits.requestTimeoutMs` or when the signal aborts. What is to happen once goes with a key
 * of its own, and is asked again when the connection breaks: a coordinator may have decided before it died.
 *
 * @throws RingfoldError COORDINATOR_UNREACHABLE | REQUEST_TIMEOUT | CANCELLED | MESSAGE_INVALID, or the code that the
 * coordinator answered with
 */
export async function callRoute<Name extends RouteName>(
  connection: ApiConnection,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
): Promise<AnswerOf<Routes[Name]>> {
  const result = routes[name].answer.safeParse(await askRoute(connection, name, input));
  if (result.success) return result.data as AnswerOf<Routes[Name]>;
  throw foreignAnswer(connection.baseUrl, z.prettifyError(result.error));
}

/** The same, for a caller with a schema of its own: what came, if it is JSON. */
export async function askRoute<Name extends RouteName>(
  connection: ApiConnection,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
): Promise<unknown> {
  const timeoutMs = connection.timeoutMs ?? limits.requestTimeoutMs;
  const signal = AbortSignal.any([connection.signal, AbortSignal.timeout(timeoutMs)]);
  const { body } = input as { readonly body?: unknown };
  const route: Route = routes[name];
  const url = routeUrl(connection.baseUrl, name, input);
  const request = {
    method: route.method,
    headers: {
      accept: "application/json",
      ...authorization(connection),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(route.once && { "idempotency-key": `"${crypto.randomUUID()}"` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal,
  };
  for (let attempt = 1; ; attempt++) {
    try {
      const response = await fetch(url, request);
      const value = parseJson(await response.text());
      if (!response.ok) throw problemError(response, value, connection.baseUrl);
      return value;
    } catch (cause) {
      if (!route.once || signal.aborted || !mayAskAgain(cause, attempt))
        throw transportError(cause, connection, timeoutMs);
    }
    await pause(Math.min(askAgainMsMax, 125 * 2 ** attempt), signal);
  }
}

/** Between two attempts; a coordinator is back within seconds. */
const askAgainMsMax = 1_000;

/** Whether the request may have arrived although no answer came; once it may have, whatever passes by itself is waited for. */
function mayAskAgain(cause: unknown, attempt: number): boolean {
  if (cause instanceof RingfoldError)
    return cause.code === "KEY_IN_USE" || (attempt > 1 && cause.rule.retryable);
  return attempt > 1 || ["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"].includes(connectionFailure(cause));
}

/** Ends early when the signal aborts; what comes next notices. */
const pause = (delayMs: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, delayMs);
    signal.addEventListener("abort", end);
  });

/** All items of a list, page after page. @throws RingfoldError as `callRoute` */
export async function callList<Name extends ListName>(
  connection: ApiConnection,
  name: Name,
  filters: object = {},
): Promise<ItemOf<Name>[]> {
  const items: ItemOf<Name>[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const query = { limit: pageItemsMax, cursor, ...filters };
    const page = await callRoute(connection, name, { query } as InputOfRoute<Routes[Name]>);
    items.push(...(page.items as ItemOf<Name>[]));
    cursor = page.next;
  }
  return items;
}

/**
 * Opens the events of a route, for as long as the signal allows.
 * @param lastEventId of the last event that the caller has: only what came after it
 * @throws RingfoldError as `callRoute`
 */
export async function openEvents<Name extends RouteName>(
  connection: ApiConnection,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
  lastEventId?: string,
): Promise<ReadableStream<Uint8Array>> {
  const { baseUrl, signal } = connection;
  const headers = {
    accept: "text/event-stream",
    ...authorization(connection),
    ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
  };
  const response = await fetch(routeUrl(baseUrl, name, input), { headers, signal }).catch(
    (cause: unknown) => {
      throw transportError(cause, connection, limits.requestTimeoutMs);
    },
  );
  if (!response.ok) throw problemError(response, parseJson(await response.text()), baseUrl);
  if (!response.body) throw foreignAnswer(baseUrl, "the event stream is empty");
  return response.body;
}

/** @throws RingfoldError USAGE when the base is no HTTP address */
export function routeUrl<Name extends RouteName>(
  baseUrl: string,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
): URL {
  const { path }: Route = routes[name];
  const given = input as {
    readonly [name: string]: unknown;
    readonly query?: Readonly<Record<string, unknown>>;
  };
  const url = resolveUrl(baseUrl, fillPath(path, given).slice(1));
  for (const [key, value] of Object.entries(given.query ?? {}))
    if (value !== undefined) url.searchParams.set(key, String(value));
  return url;
}

const authorization = ({ operatorToken }: ApiConnection): Record<string, string> =>
  operatorToken === undefined ? {} : { authorization: `Bearer ${operatorToken}` };

/** RFC 9457 answers carry our code; anything else comes from a proxy or another program and is told by its status. */
function problemError(response: Response, body: unknown, baseUrl: string): RingfoldError {
  const problem = problemSchema.safeParse(body);
  if (problem.success && isErrorCode(problem.data.code)) {
    const { code, detail, data, remedy } = problem.data;
    return new RingfoldError(code, detail, { ...plainData(data), remedy });
  }
  const code = codeOfStatus[response.status] ?? "PEER_REFUSED";
  return new RingfoldError(code, `${baseUrl} answered ${response.status} ${response.statusText}`.trim(), {
    status: response.status,
  });
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: "UNAUTHENTICATED",
  404: "NOT_FOUND",
  413: "PAYLOAD_TOO_LARGE",
  429: "OVERLOADED",
  502: "COORDINATOR_UNREACHABLE",
  503: "COORDINATOR_UNREACHABLE",
  504: "REQUEST_TIMEOUT",
};

const plainValueSchema = z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]);

const plainData = (data: Record<string, unknown>): ErrorData =>
  Object.fromEntries(
    Object.entries(data).flatMap(([key, value]) => {
      const plain = plainValueSchema.safeParse(value);
      return plain.success ? [[key, plain.data]] : [];
    }),
  );

export const foreignAnswer = (baseUrl: string, detail: string): RingfoldError =>
  new RingfoldError(
    "MESSAGE_INVALID",
    `${baseUrl} does not answer as this release expects: ${detail.split("\n", 2).join(" ")}`,
    { address: baseUrl, remedy: "Check that a Ringfold coordinator of the same release is at that address." },
  );

/** What went wrong on the way, as one of our errors. */
export function transportError(
  cause: unknown,
  { baseUrl, signal }: ApiConnection,
  timeoutMs: number,
): RingfoldError {
  if (cause instanceof RingfoldError) return cause;
  if (signal.aborted) {
    if (signal.reason instanceof RingfoldError) return signal.reason;
    return new RingfoldError("CANCELLED", "it was cancelled", {}, { cause });
  }
  if (cause instanceof Error && cause.name === "TimeoutError") {
    const message = `no answer from the coordinator at ${baseUrl} within ${timeoutMs / 1_000} s`;
    return new RingfoldError(
      "REQUEST_TIMEOUT",
      message,
      { address: baseUrl, elapsedMs: timeoutMs },
      { cause },
    );
  }
  return new RingfoldError(
    "COORDINATOR_UNREACHABLE",
    `no coordinator answers at ${baseUrl} (${connectionFailure(cause)})`,
    { address: baseUrl },
    { cause },
  );
}
