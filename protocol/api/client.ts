import { z } from "zod";
import { type ErrorCode, type ErrorData, isErrorCode, RingfoldError } from "../errors.ts";
import { connectionFailure, parseJson, resolveUrl, wasCutOff, wasNeverSent } from "../http.ts";
import { limits } from "../limits.ts";
import { problemSchema } from "../messages/api.ts";
import type { Coordinators } from "./coordinators.ts";
import { type AnswerOf, fillPath, type InputOfRoute, pageItemsMax, type Route } from "./route.ts";
import { type RouteName, type Routes, routes } from "./routes.ts";

/** How the command line and the dashboard reach a coordinator: typed by the table of routes. */

export interface ApiConnection {
  readonly coordinators: Coordinators;
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
  throw foreignAnswer(connection.coordinators.url, z.prettifyError(result.error));
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
  const request = {
    method: route.method,
    headers: {
      accept: "application/json",
      ...authorization(connection),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(route.once && { "idempotency-key": `"${crypto.randomUUID()}"` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  };
  return askLeader({ ...connection, signal, timeoutMs }, route, async (baseUrl, until) => {
    const response = await fetch(routeUrl(baseUrl, name, input), { ...request, signal: until });
    const value = parseJson(await response.text());
    if (!response.ok) throw problemError(response, value, baseUrl);
    return value;
  });
}

/** Between two attempts; a coordinator is back, or another leads, within seconds. */
const askAgainMsMax = 1_000;
/** Of several coordinators one that swallows requests must leave time for the next. */
const attemptMs = 3_000;

/**
 * Asks the one that leads, and when it does not any more the next one. What nobody has heard, or a standby has refused, is asked
 * again as it is; what may have been carried out only if it has a key or changes nothing.
 */
async function askLeader<T>(
  connection: ApiConnection & { readonly timeoutMs: number },
  { method, once }: Route,
  ask: (baseUrl: string, until: AbortSignal) => Promise<T>,
): Promise<T> {
  const { coordinators, signal } = connection;
  const endMs = performance.now() + connection.timeoutMs;
  for (let attempt = 1; ; attempt++) {
    const { url, areSeveral } = coordinators;
    const mayRepeat = once === true || (method === "GET" && areSeveral);
    const until = openAttempt(signal, mayRepeat && areSeveral);
    try {
      const answer = await ask(url, until.signal);
      coordinators.answered();
      return answer;
    } catch (cause) {
      const kind = signal.aborted ? "final" : failureOf(cause, attempt > 1);
      if (kind === "elsewhere") coordinators.turnFrom(url, leaderOf(cause));
      if (kind === "perhaps" && !isRefusal(cause, "KEY_IN_USE")) coordinators.turnFrom(url);
      const again = {
        elsewhere: coordinators.areSeveral || (mayRepeat && attempt > 1),
        perhaps: mayRepeat,
        final: false,
      };
      if (!again[kind] || performance.now() > endMs) throw transportError(cause, connection);
    } finally {
      until.close();
    }
    await pause(Math.min(askAgainMsMax, 62 * 2 ** attempt), signal);
  }
}

/** A signal that also aborts when an attempt takes too long, until it is closed: what has been opened stays open. */
function openAttempt(
  signal: AbortSignal,
  isBounded: boolean,
): { readonly signal: AbortSignal; close(): void } {
  const late = new AbortController();
  const abort = () => late.abort(new DOMException("no answer in time", "TimeoutError"));
  const timer = isBounded ? setTimeout(abort, attemptMs) : undefined;
  return { signal: AbortSignal.any([signal, late.signal]), close: () => clearTimeout(timer) };
}

/**
 * What a failed attempt means. elsewhere: nobody has carried it out, and another may. perhaps: it may have been carried out, and may
 * go well later; of an attempt that is not the first, that is whatever passes by itself.
 */
function failureOf(cause: unknown, isRepeated: boolean): "elsewhere" | "perhaps" | "final" {
  if (wasNeverSent(cause) || isRefusal(cause, "COORDINATOR_STANDBY")) return "elsewhere";
  const mayPass =
    cause instanceof RingfoldError
      ? ["KEY_IN_USE", "STALE_TERM"].includes(cause.code) || (isRepeated && cause.rule.retryable)
      : isRepeated || wasCutOff(cause) || isTimeout(cause);
  return mayPass ? "perhaps" : "final";
}

const isTimeout = (cause: unknown): boolean => cause instanceof Error && cause.name === "TimeoutError";

const isRefusal = (cause: unknown, code: ErrorCode): boolean =>
  cause instanceof RingfoldError && cause.code === code;

const leaderOf = (cause: unknown): unknown =>
  cause instanceof RingfoldError ? cause.data.leader : undefined;

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
  const headers = {
    accept: "text/event-stream",
    ...authorization(connection),
    ...(lastEventId !== undefined && { "last-event-id": lastEventId }),
  };
  const timeoutMs = limits.requestTimeoutMs;
  return askLeader({ ...connection, timeoutMs }, routes[name], async (baseUrl, signal) => {
    const response = await fetch(routeUrl(baseUrl, name, input), { headers, signal });
    if (!response.ok) throw problemError(response, parseJson(await response.text()), baseUrl);
    if (!response.body) throw foreignAnswer(baseUrl, "the event stream is empty");
    return response.body;
  });
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
  {
    coordinators,
    signal,
    timeoutMs = limits.requestTimeoutMs,
  }: Pick<ApiConnection, "coordinators" | "signal" | "timeoutMs">,
): RingfoldError {
  const address = String(coordinators);
  if (cause instanceof RingfoldError) return cause;
  if (signal.aborted && !isTimeout(signal.reason)) {
    if (signal.reason instanceof RingfoldError) return signal.reason;
    return new RingfoldError("CANCELLED", "it was cancelled", {}, { cause });
  }
  if (signal.aborted || isTimeout(cause)) {
    const message = `no answer from the coordinator at ${address} within ${timeoutMs / 1_000} s`;
    return new RingfoldError("REQUEST_TIMEOUT", message, { address, elapsedMs: timeoutMs }, { cause });
  }
  return new RingfoldError(
    "COORDINATOR_UNREACHABLE",
    `no coordinator answers at ${address} (${connectionFailure(cause)})`,
    { address },
    { cause },
  );
}
