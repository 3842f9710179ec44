import { timingSafeEqual } from "node:crypto";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { secureHeaders } from "hono/secure-headers";
import type { z } from "zod";
import { parameterNames, pathParameters, type RequestOf, type Route } from "../../protocol/api/route.ts";
import { type RouteName, routes } from "../../protocol/api/routes.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Log } from "../../protocol/ports.ts";
import type { Coordinator } from "../coordinator.ts";
import { createHandlers, type Handler } from "./handlers.ts";
import { refuse } from "./refusal.ts";

export interface ApiModules {
  readonly coordinator: Coordinator;
  /** Whoever holds it may change things. */
  readonly operatorToken: string;
  /** Multiaddrs of the coordinator's node. */
  readonly addresses: () => readonly string[];
  readonly log: Log;
}

/** The coordinator's HTTP API, made from the table of protocol/api/routes.ts. */
export function createApi({ coordinator, operatorToken, addresses, log }: ApiModules): Hono {
  const app = new Hono();
  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        frameAncestors: ["'none'"],
      },
    }),
  );
  app.use("/api/*", bodyLimit({ maxSize: limits.httpBodyBytes, onError: () => refuse(tooLarge()) }));
  app.on(["POST", "PUT", "DELETE", "PATCH"], "/api/*", async (c, next) => {
    if (!holdsToken(c.req.header("authorization"), operatorToken)) {
      throw new RingfoldError("UNAUTHENTICATED", "this needs the operator token");
    }
    await next();
  });

  const handlers = createHandlers(coordinator, addresses);
  const names = Object.keys(routes) as RouteName[];
  for (const name of names) serve(app, routes[name], handlers[name] as Handler<Route>);
  for (const path of new Set(names.map((name) => routes[name].path))) {
    const allowed = names.filter((name) => routes[name].path === path).map((name) => routes[name].method);
    app.all(honoPath(path), (c) => refuse(methodNotAllowed(c, allowed), { allow: allowed.join(", ") }));
  }
  app.all("/api/*", (c) =>
    refuse(new RingfoldError("NOT_FOUND", `there is no ${c.req.method} ${c.req.path}`)),
  );
  app.onError((cause, c) => {
    const error = toRingfoldError(cause);
    if (error.code === "INTERNAL") log.error({ err: error, path: c.req.path }, "A request failed");
    return refuse(error);
  });
  return app;
}

/** Validates what comes, and answers with what the handler says. */
function serve(app: Hono, route: Route, handler: Handler<Route>): void {
  app.on(route.method, honoPath(route.path), async (c) => {
    const request = {
      parameters: readParameters(c, route),
      query: route.query && check(route.query, c.req.query(), "REQUEST_INVALID", "query"),
      body: route.body && (await readBody(c.req.raw, route.body, route)),
    } as RequestOf<Route>;
    const answer = await handler(request, c);
    return answer instanceof Response ? answer : c.json(answer as object, route.status ?? 200);
  });
}

/** OpenAPI writes `{id}` where Hono writes `:id`. */
const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");

function readParameters(c: Context, { path }: Route): Record<string, unknown> {
  const values = parameterNames(path).map((name) => {
    const result = pathParameters[name].safeParse(c.req.param(name));
    if (result.success) return [name, result.data] as const;
    throw new RingfoldError("NOT_FOUND", `there is no ${c.req.path}`);
  });
  return Object.fromEntries(values);
}

async function readBody(request: Request, schema: z.ZodType, route: Route): Promise<unknown> {
  const text = await request.text();
  let value: unknown;
  try {
    value = text === "" && route.mayBeEmpty ? {} : JSON.parse(text);
  } catch (cause) {
    throw new RingfoldError("REQUEST_INVALID", "the body is not JSON", {}, { cause });
  }
  return check(schema, value, route.bodyCode ?? "REQUEST_INVALID", "body");
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

const methodNotAllowed = ({ req }: Context, allowed: readonly string[]) =>
  new RingfoldError("METHOD_NOT_ALLOWED", `${req.path} takes ${allowed.join(", ")}, not ${req.method}`, {
    allowed,
  });

const tooLarge = () =>
  new RingfoldError("PAYLOAD_TOO_LARGE", `the body is larger than ${limits.httpBodyBytes} bytes`);

function holdsToken(header: string | undefined, expected: string): boolean {
  const given = Buffer.from(/^Bearer +(\S+)$/i.exec(header ?? "")?.[1] ?? "");
  const wanted = Buffer.from(expected);
  return wanted.length > 0 && given.length === wanted.length && timingSafeEqual(given, wanted);
}
