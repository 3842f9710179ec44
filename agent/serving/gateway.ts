import { getConnInfo } from "@hono/node-server/conninfo";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Placement } from "../../protocol/messages/serving.ts";
import type { Log } from "../../protocol/ports.ts";
import { Admission } from "./admission.ts";
import { missingShards, type PlacementTable } from "./placement-table.ts";
import {
  formatInferenceReply,
  formatModelMetadata,
  parseInferenceRequest,
} from "./protocols/open-inference.ts";
import type { TrafficSplit } from "./traffic-split.ts";

/** What bodies that are being read or answered may hold together: sixteen of the largest. */
const admittedBytesMax = 16 * limits.predictBodyBytes;

export interface GatewayModules {
  readonly predictor: Pick<TrafficSplit, "predict">;
  readonly table: PlacementTable;
  readonly log: Log;
}
export interface GatewayOptions {
  /** Of this program, for the server's metadata. */
  readonly release: string;
}

/**
 * The HTTP face of an agent: predictions by the Open Inference Protocol v2, and health. Any agent answers for any model.
 *
 *   GET  /healthz /readyz
 *   GET  /observed
 *   GET  /v2 /v2/health/live /v2/health/ready
 *   GET  /v2/models/:name[/versions/:version][/ready]
 *   POST /v2/models/:name[/versions/:version]/infer
 *
 * Errors are `{"error": "..."}` with the HTTP status of their code.
 */
export function createGateway(options: GatewayOptions, modules: GatewayModules): Hono {
  const app = new Hono();
  const failures = new FailureLog(modules.log);
  app.onError((cause, context) => answerError(context, toRingfoldError(cause), failures));
  app.notFound((context) =>
    context.json({ error: `no route ${context.req.method} ${context.req.path}` }, 404),
  );
  addHealth(app, options, modules.table);
  addObserved(app);
  addModels(app, modules, failures);
  return app;
}

/** Whoever asks, as this agent sees it: `ringfold doctor` compares what several say of one port of its machine. */
function addObserved(app: Hono): void {
  app.get("/observed", (context) => {
    const { address = "", port = 0 } = getConnInfo(context).remote;
    return context.json({ address: address.replace(/^::ffff:/, ""), port });
  });
}

function addHealth(app: Hono, { release }: GatewayOptions, table: PlacementTable): void {
  /** An agent that has heard no coordinator yet knows no model; one that lost its coordinator later serves on. */
  const knowsModels = () => table.known;
  const everyModelReady = () => knowsModels() && table.live().every(isReady);
  app.get("/healthz", (context) => context.json({ status: "ok" }));
  app.get("/readyz", (context) =>
    knowsModels()
      ? context.json({ status: "ready" })
      : context.json({ status: "waiting for the coordinator" }, 503),
  );
  app.get("/v2", (context) => context.json({ name: "ringfold", version: release, extensions: [] }));
  app.get("/v2/health/live", (context) => context.json({ live: true, ready: everyModelReady() }));
  app.get("/v2/health/ready", (context) => {
    const ready = everyModelReady();
    return context.json({ live: true, ready }, ready ? 200 : 503);
  });
}

function addModels(app: Hono, { predictor, table, log }: GatewayModules, failures: FailureLog): void {
  const paths = (end: string) => ["", "/versions/:version"].map((part) => `/v2/models/:name${part}${end}`);
  app.on("GET", paths(""), (context) => context.json(formatModelMetadata(findPlacement(table, context))));
  app.on("GET", paths("/ready"), (context) => {
    const placement = findPlacement(table, context);
    const ready = isReady(placement);
    return context.json({ name: placement.name, ready }, ready ? 200 : 503);
  });
  const refuseTooLarge = bodyLimit({
    maxSize: limits.predictBodyBytes,
    onError: () => {
      throw tooLarge();
    },
  });
  app.on("POST", paths("/infer"), admit(), refuseTooLarge, async (context) => {
    const { name, version } = findPlacement(table, context);
    const isNamed = context.req.param("version") !== undefined;
    if (context.req.header("inference-header-content-length") !== undefined) {
      throw new RingfoldError("REQUEST_INVALID", "binary tensors are not supported: send `data` in JSON");
    }
    const { id, input } = parseInferenceRequest(new Uint8Array(await context.req.arrayBuffer()));
    const request = { name, input, ...(isNamed && { version }), ...(id && { id }) };
    const reply = await predictor.predict(request, context.req.raw.signal);
    failures.end();
    log.debug({ model: `${name}@${reply.version}`, hops: reply.hops }, "Prediction answered");
    return context.json(formatInferenceReply(reply, id));
  });
}

const isReady = (placement: Placement): boolean => missingShards(placement).length === 0;

/** @throws RingfoldError NOT_FOUND */
function findPlacement(table: PlacementTable, context: Context): Placement {
  const name = context.req.param("name") ?? "";
  const wanted = context.req.param("version");
  const live = table.find(name);
  if (live === undefined) throw new RingfoldError("NOT_FOUND", `model ${name.slice(0, 64)} is not deployed`);
  if (wanted === undefined) return live;
  const found = /^[1-9][0-9]{0,8}$/.test(wanted) ? table.find(name, Number(wanted)) : undefined;
  if (found) return found;
  throw new RingfoldError(
    "NOT_FOUND",
    `${name} has no live version ${wanted.slice(0, 64)}; live is ${live.version}`,
  );
}

const tooLarge = () =>
  new RingfoldError("PAYLOAD_TOO_LARGE", `the body is larger than ${limits.predictBodyBytes} bytes`, {
    bytesMax: limits.predictBodyBytes,
  });

/** Bodies are counted before they are read, so that a flood of large ones ends in 429 and not in lost memory. */
function admit(): MiddlewareHandler {
  const admission = new Admission({
    what: "requests",
    countMax: limits.pendingPredictMax,
    bytesMax: admittedBytesMax,
  });
  return async (context, next) => {
    const declared = Number(context.req.header("content-length") ?? Number.NaN);
    const leave = admission.enter(Number.isSafeInteger(declared) ? declared : limits.predictBodyBytes);
    try {
      await next();
    } finally {
      leave();
    }
  };
}

function answerError(context: Context, error: RingfoldError, failures: FailureLog): Response {
  failures.add(error);
  if (error.rule.retryable) context.header("Retry-After", "1");
  return context.json({ error: error.message }, error.rule.http);
}

/** Warns when predictions begin to fail, or fail for another reason; not at the rate of the requests. */
class FailureLog {
  readonly #log: Log;
  #lastCode: string | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  add(error: RingfoldError): void {
    const { code, message, rule } = error;
    if (rule.blame === "caller" || code === this.#lastCode) {
      this.#log.debug({ code, reason: message }, "Prediction refused");
      return;
    }
    this.#lastCode = code;
    this.#log.warn({ code, reason: message, err: error }, "Predictions fail");
  }

  /** A prediction was answered: the next failure is news. */
  end(): void {
    this.#lastCode = null;
  }
}
