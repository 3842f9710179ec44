import { createHash } from "node:crypto";
import type { Context, Hono } from "hono";
import type { z } from "zod";
import {
  fillPath,
  parameterNames,
  pathParameters,
  type RequestOf,
  type Route,
} from "../../protocol/api/route.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { RequestKey } from "../keyed-requests.ts";
import { answerGet, readIfMatch } from "./entity-tags.ts";

/** What a handler is given. */
export type ServedRequest<R extends Route> = RequestOf<R> & {
  /** Of a request that is to happen once, however often it is sent. */
  readonly key: RequestKey | undefined;
  /** Revisions of which the present one must be one; `*` is any. */
  readonly ifMatch: readonly string[] | undefined;
};

type Handle = (request: ServedRequest<Route>, c: Context) => unknown;

/** Validates what comes on a route of the table, and answers with what the handler says. */
export function serve(app: Hono, route: Route, handle: Handle): void {
  app.on(route.method, honoPath(route.path), async (c) => {
    const parameters = readParameters(c, route);
    const query = route.query && check(route.query, c.req.query(), "REQUEST_INVALID", "query");
    const text = route.body && (await c.req.text());
    const body = route.body && readBody(text!, route.body, route);
    const key = route.once && readKey(c, text ?? "");
    const ifMatch = readIfMatch(c, route);
    const answer = await handle({ parameters, query, body, key, ifMatch } as ServedRequest<Route>, c);
    if (answer instanceof Response) return answer;
    if (route.events === "accepted") linkNext(c, answer as { readonly next: string | null });
    if (route.method === "GET") return answerGet(c, answer);
    if (route.location) c.header("location", fillPath(route.location, answer as Record<string, unknown>));
    return c.json(answer as object, route.status ?? 200);
  });
}

/** The following page for clients that know links only. Source: RFC 8288. */
function linkNext(c: Context, { next }: { readonly next: string | null }): void {
  c.header("vary", "accept");
  if (next === null) return;
  const url = new URL(c.req.url);
  url.searchParams.set("cursor", next);
  c.header("link", `<${url.pathname}${url.search}>; rel="next"`);
}

/** OpenAPI writes `{id}` where Hono writes `:id`. */
export const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");

function readParameters(c: Context, { path }: Route): Record<string, unknown> {
  const values = parameterNames(path).map((name) => {
    const result = pathParameters[name].safeParse(c.req.param(name));
    if (result.success) return [name, result.data] as const;
    throw new RingfoldError("NOT_FOUND", `there is no ${c.req.path}`);
  });
  return Object.fromEntries(values);
}

function readBody(text: string, schema: z.ZodType, route: Route): unknown {
  let value: unknown;
  try {
    value = text === "" && route.mayBeEmpty ? {} : JSON.parse(text);
  } catch (cause) {
    throw new RingfoldError("REQUEST_INVALID", "the body is not JSON", {}, { cause });
  }
  return check(schema, value, route.bodyCode ?? "REQUEST_INVALID", "body");
}

/**
 * A key is a string as structured fields write it, in quotes; without them it is taken as well, as most clients send it so.
 * Source: draft-ietf-httpapi-idempotency-key-header-07; RFC 9651, section 3.3.3.
 */
function readKey(c: Context, text: string): RequestKey | undefined {
  const header = c.req.header("idempotency-key");
  if (header === undefined) return undefined;
  const [, quoted, bare] = /^(?:"([ !#-[\]-~]{1,255})"|([!#-[\]-~]{1,255}))$/.exec(header) ?? [];
  const key = quoted ?? bare;
  if (key === undefined)
    throw new RingfoldError("REQUEST_INVALID", "Idempotency-Key: 1 to 255 visible characters, best a UUID");
  return { key, fingerprint: digestOf(`${c.req.method} ${c.req.path}${new URL(c.req.url).search}\n${text}`) };
}

/** @param what names a mistake that is in no field */
function check<T>(
  schema: z.ZodType<T>,
  value: unknown,
  code: "JOB_INVALID" | "REQUEST_INVALID",
  what: "body" | "query",
): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const mistakes = result.error.issues.map(({ path, message }) => `${path.join(".") || what}: ${message}`);
  throw new RingfoldError(code, mistakes.join("; "), { mistakes });
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");
