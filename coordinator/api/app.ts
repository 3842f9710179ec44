import { timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { secureHeaders } from "hono/secure-headers";
import type { z } from "zod";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import {
  deployRequestSchema,
  type Problem,
  reachabilityRequestSchema,
  steerActionSchema,
  steerRequestSchema,
  tokenRequestSchema,
} from "../../protocol/messages/api.ts";
import { type AuditQuery, auditQuerySchema } from "../../protocol/messages/audit.ts";
import { datasetRequestSchema } from "../../protocol/messages/dataset.ts";
import type { Log } from "../../protocol/ports.ts";
import type { Coordinator } from "../coordinator.ts";
import { streamCluster } from "./events.ts";
import { dialBack, observe } from "./reachability.ts";

export interface ApiModules {
  readonly coordinator: Coordinator;
  /** Whoever holds it may change things. */
  readonly operatorToken: string;
  /** Multiaddrs of the coordinator's node. */
  readonly addresses: () => readonly string[];
  readonly log: Log;
}

/** The coordinator's HTTP API; protocol/messages/api.ts lists the routes. */
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

  app.get("/healthz", (c) => c.json({ live: true }));
  app.get("/readyz", (c) => c.json({ ready: true }));
  app.get("/api/cluster", (c) => c.json(coordinator.view()));
  app.get("/api/audit", (c) => c.json(coordinator.audit(query(c.req.query()))));
  app.get("/api/events", (c) => streamCluster(c, coordinator));
  app.get("/api/peers", (c) => c.json(coordinator.view().peers));
  app.get("/api/jobs", (c) => c.json(coordinator.view().jobs));
  app.get("/api/jobs/:id", (c) => c.json(coordinator.job(c.req.param("id"))));
  app.get("/api/jobs/:id/curve", (c) => c.json(coordinator.curve(c.req.param("id"))));
  app.get("/api/models", (c) => c.json(coordinator.view().versions));
  app.get("/api/models/:name/versions/:version", (c) =>
    c.json(coordinator.version(c.req.param("name"), Number(c.req.param("version")))),
  );
  app.get("/api/deployments", (c) => c.json(coordinator.view().deployments));

  app.get("/api/observed", (c) => c.json(observe(c, addresses())));
  app.post("/api/reachability", async (c) =>
    c.json(await dialBack(c, await body(c.req.raw, reachabilityRequestSchema, "REQUEST_INVALID"))),
  );

  app.post("/api/jobs", async (c) =>
    c.json(await coordinator.submitJob(await body(c.req.raw, jobSpecSchema, "JOB_INVALID")), 201),
  );
  for (const action of steerActionSchema.options) {
    app.post(`/api/jobs/:id/${action}`, async (c) => {
      const { reason } = await body(c.req.raw, steerRequestSchema, "REQUEST_INVALID", {});
      return c.json(await coordinator.steerJob(c.req.param("id"), action, reason));
    });
  }
  app.put("/api/deployments/:name", async (c) =>
    c.json(
      await coordinator.deploy(
        c.req.param("name"),
        await body(c.req.raw, deployRequestSchema, "REQUEST_INVALID"),
      ),
    ),
  );
  app.delete("/api/deployments/:name", async (c) => {
    await coordinator.removeDeployment(c.req.param("name"));
    return c.json({});
  });
  app.get("/api/datasets", (c) => c.json(coordinator.datasets()));
  app.get("/api/datasets/:name/versions/:version", (c) =>
    c.json(coordinator.dataset(c.req.param("name"), Number(c.req.param("version")))),
  );
  app.post("/api/datasets", async (c) =>
    c.json(await coordinator.addDataset(await body(c.req.raw, datasetRequestSchema, "REQUEST_INVALID")), 201),
  );
  app.delete("/api/datasets/:name/versions/:version", async (c) => {
    await coordinator.removeDataset(c.req.param("name"), Number(c.req.param("version")));
    return c.json({});
  });
  app.post("/api/tokens", async (c) =>
    c.json({
      token: await coordinator.createToken(await body(c.req.raw, tokenRequestSchema, "REQUEST_INVALID")),
    }),
  );

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

/** application/problem+json, RFC 9457. */
function refuse(error: RingfoldError): Response {
  const status = error.rule.http;
  const problem: Problem = {
    type: "about:blank",
    title: error.code,
    status,
    detail: error.message,
    code: error.code,
    data: { ...error.data },
    remedy: error.remedy,
  };
  return Response.json(problem, { status, headers: { "content-type": "application/problem+json" } });
}

async function body<T>(
  request: Request,
  schema: z.ZodType<T>,
  code: "JOB_INVALID" | "REQUEST_INVALID",
  whenEmpty?: unknown,
): Promise<T> {
  let value: unknown;
  try {
    const text = await request.text();
    value = text === "" && whenEmpty !== undefined ? whenEmpty : JSON.parse(text);
  } catch (cause) {
    throw new RingfoldError("REQUEST_INVALID", "the body is not JSON", {}, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw invalid(result.error, code, "body");
}

function query(given: Record<string, string>): AuditQuery {
  const result = auditQuerySchema.safeParse(given);
  if (result.success) return result.data;
  throw invalid(result.error, "REQUEST_INVALID", "query");
}

function invalid(error: z.ZodError, code: "JOB_INVALID" | "REQUEST_INVALID", what: string): RingfoldError {
  const mistakes = error.issues.map(({ path, message }) => `${path.join(".") || what}: ${message}`);
  return new RingfoldError(code, mistakes.join("; "), { mistakes });
}

const tooLarge = () =>
  new RingfoldError("PAYLOAD_TOO_LARGE", `the body is larger than ${limits.httpBodyBytes} bytes`);

function holdsToken(header: string | undefined, expected: string): boolean {
  const given = Buffer.from(/^Bearer +(\S+)$/i.exec(header ?? "")?.[1] ?? "");
  const wanted = Buffer.from(expected);
  return wanted.length > 0 && given.length === wanted.length && timingSafeEqual(given, wanted);
}
