import { timingSafeEqual } from "node:crypto";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Route } from "../../protocol/api/route.ts";
import { type RouteName, routes } from "../../protocol/api/routes.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Log } from "../../protocol/ports.ts";
import type { Coordinator } from "../port.ts";
import { createHandlers, type Handler } from "./handlers.ts";
import { pageHeaders } from "./page-headers.ts";
import { refuse } from "./refusal.ts";
import { honoPath, serve } from "./serve.ts";

export interface ApiModules {
  readonly coordinator: Coordinator;
  /** Whoever holds it may change things. */
  readonly operatorToken: string;
  /** Multiaddrs of the coordinator's node. */
  readonly addresses: () => readonly string[];
  /** HTTP addresses of all coordinators of the cluster, where there are several. */
  readonly coordinatorUrls?: () => readonly string[];
  readonly log: Log;
}

/** The coordinator's HTTP API, made from the table of protocol/api/routes.ts. */
export function createApi({
  coordinator,
  operatorToken,
  addresses,
  coordinatorUrls = () => [],
  log,
}: ApiModules): Hono {
  const app = new Hono();
  app.use(pageHeaders(coordinatorUrls));
  app.use("/api/*", bodyLimit({ maxSize: limits.httpBodyBytes, onError: () => refuse(tooLarge()) }));
  const forOperators: MiddlewareHandler = async (c, next) => {
    if (!holdsToken(c.req.header("authorization"), operatorToken)) {
      throw new RingfoldError("UNAUTHENTICATED", "this needs the operator token");
    }
    await next();
  };
  app.on(["POST", "PUT", "DELETE", "PATCH"], "/api/*", forOperators);

  const handlers = createHandlers({ coordinator, addresses, coordinatorUrls, log });
  const names = Object.keys(routes) as RouteName[];
  for (const name of names) {
    const route: Route = routes[name];
    if (route.isPrivate) app.on(route.method, honoPath(route.path), forOperators);
    serve(app, route, handlers[name] as Handler<Route>);
  }
  for (const path of new Set(names.map((name) => routes[name].path))) {
    const allowed = names.filter((name) => routes[name].path === path).map((name) => routes[name].method);
    app.all(honoPath(path), (c) => refuse(methodNotAllowed(c, allowed), { allow: allowed.join(", ") }));
  }
  const nothingThere = (c: Context) =>
    refuse(new RingfoldError("NOT_FOUND", `there is no ${c.req.method} ${c.req.path}`));
  app.all("/api/*", nothingThere);
  app.notFound(nothingThere);
  app.onError((cause, c) => {
    const error = toRingfoldError(cause);
    if (error.code === "INTERNAL") log.error({ err: error, path: c.req.path }, "A request failed");
    return refuse(error);
  });
  return app;
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
