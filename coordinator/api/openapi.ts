import { z } from "zod";
import { parameterNames, pathParameters, type Route } from "../../protocol/api/route.ts";
import { routes } from "../../protocol/api/routes.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import {
  clusterViewSchema,
  deploymentViewSchema,
  deployRequestSchema,
  jobViewSchema,
  peerViewSchema,
  problemSchema,
  steerRequestSchema,
  versionDetailSchema,
  versionViewSchema,
} from "../../protocol/messages/api.ts";
import { auditEntrySchema } from "../../protocol/messages/audit.ts";
import {
  datasetDetailSchema,
  datasetRequestSchema,
  datasetViewSchema,
} from "../../protocol/messages/dataset.ts";
import {
  documentDetailSchema,
  documentRequestSchema,
  documentViewSchema,
} from "../../protocol/messages/document.ts";
import { jobLogsSchema } from "../../protocol/messages/job-log.ts";
import { lineageSchema } from "../../protocol/messages/lineage.ts";
import { rolloutRequestSchema, rolloutViewSchema } from "../../protocol/messages/rollout.ts";
import { sweepSummarySchema, sweepViewSchema } from "../../protocol/messages/sweep.ts";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";

type Json = Record<string, unknown>;

/** Names in the document; what has none here is named after its route. */
const named = {
  request: {
    JobSpec: jobSpecSchema,
    SweepSpec: sweepSpecSchema,
    SteerRequest: steerRequestSchema,
    DeployRequest: deployRequestSchema,
    RolloutRequest: rolloutRequestSchema,
    DatasetRequest: datasetRequestSchema,
    DocumentRequest: documentRequestSchema,
  },
  answer: {
    Cluster: clusterViewSchema,
    Peer: peerViewSchema,
    Job: jobViewSchema,
    JobLogs: jobLogsSchema,
    Sweep: sweepSummarySchema,
    SweepDetail: sweepViewSchema,
    Version: versionViewSchema,
    VersionDetail: versionDetailSchema,
    Lineage: lineageSchema,
    Deployment: deploymentViewSchema,
    Rollout: rolloutViewSchema,
    Dataset: datasetViewSchema,
    DatasetDetail: datasetDetailSchema,
    Document: documentViewSchema,
    DocumentDetail: documentDetailSchema,
    Decision: auditEntrySchema,
    Problem: problemSchema,
  },
} as const;

const reference = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const all: readonly (readonly [string, Route])[] = Object.entries(routes);

/**
 * The OpenAPI 3.1 document of the table of routes. Its schemas are those that the server and the clients validate with,
 * written as JSON Schema by zod.
 *
 * Source: OpenAPI Specification 3.1.1; JSON Schema 2020-12.
 */
export function describeApi(release: string): Json {
  const requests = new Schemas("input", named.request, "Request");
  const answers = new Schemas("output", named.answer, "Answer");
  const paths: Record<string, Json> = {};
  for (const [name, route] of all) {
    paths[route.path] ??= {};
    paths[route.path]![route.method.toLowerCase()] = operation(name, route, requests, answers);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Ringfold coordinator",
      version: release,
      license: { name: "MIT", identifier: "MIT" },
      description: "Training and serving on a few machines. docs/api.md says how requests behave.",
    },
    servers: [{ url: "/" }],
    paths,
    components: {
      schemas: { ...requests.written(), ...answers.written() },
      responses: {
        Problem: {
          description: "Refused: `code` says why, `remedy` what to do about it",
          content: { "application/problem+json": { schema: reference("Problem") } },
        },
      },
      securitySchemes: {
        operator: { type: "http", scheme: "bearer", description: "The operator token of the cluster" },
      },
    },
  };
}

/** Schemas of one direction: zod writes them together, so that each name stands once and is referred to. */
class Schemas {
  readonly #registry = z.registry<{ id: string }>();
  readonly #io: "input" | "output";
  readonly #suffix: string;

  constructor(io: "input" | "output", known: Readonly<Record<string, z.ZodType>>, suffix: string) {
    this.#io = io;
    this.#suffix = suffix;
    for (const [id, schema] of Object.entries(known)) this.#registry.add(schema, { id });
  }

  refer(schema: z.ZodType, routeName: string): Json {
    const id =
      this.#registry.get(schema)?.id ?? `${routeName[0]!.toUpperCase()}${routeName.slice(1)}${this.#suffix}`;
    if (!this.#registry.has(schema)) this.#registry.add(schema, { id });
    return reference(id);
  }

  written(): Json {
    const uri = (id: string) => reference(id).$ref;
    const { schemas } = z.toJSONSchema(this.#registry, { io: this.#io, uri });
    return Object.fromEntries(
      Object.entries(schemas).map(([id, { $id: _, $schema: __, ...schema }]) => [id, schema]),
    );
  }
}

function operation(name: string, route: Route, requests: Schemas, answers: Schemas): Json {
  const answer = answers.refer(route.answer, name);
  const content = {
    ...(route.events !== "always" && { "application/json": { schema: answer } }),
    ...(route.events && { "text/event-stream": { schema: { type: "string" } } }),
  };
  return {
    operationId: name,
    summary: route.summary,
    parameters: [...pathParametersOf(route), ...queryParametersOf(route), ...headersOf(route)],
    ...(route.body && {
      requestBody: {
        required: !route.mayBeEmpty,
        content: { "application/json": { schema: requests.refer(route.body, name) } },
      },
    }),
    responses: {
      [route.status ?? 200]: {
        ...{ description: route.summary, content },
        ...(route.method === "GET" && { headers: { ETag: text } }),
        ...(route.location && { headers: { Location: text } }),
      },
      ...(route.unready && {
        503: {
          description: "Not now; `reasons` say why",
          content: { "application/json": { schema: answer } },
        },
      }),
      ...(route.method === "GET" && { 304: { description: "It is what If-None-Match says is known" } }),
      default: { $ref: "#/components/responses/Problem" },
    },
    security: route.method === "GET" && !route.isPrivate ? [] : [{ operator: [] }],
  };
}

const pathParametersOf = ({ path }: Route): Json[] =>
  parameterNames(path).map((name) => ({
    ...{ name, in: "path", required: true },
    schema: jsonSchema(pathParameters[name]),
  }));

const queryParametersOf = ({ query }: Route): Json[] =>
  Object.entries(query?.shape ?? {}).map(([name, schema]) => ({
    ...{ name, in: "query", required: false },
    schema: jsonSchema(schema as z.ZodType),
  }));

const headersOf = (route: Route): Json[] => [
  ...(route.method === "GET" ? [header("If-None-Match", "Entity tags that the client knows")] : []),
  ...(route.conditional ? [header("If-Match", "Entity tags of which the present one must be one")] : []),
  ...(route.once ? [header("Idempotency-Key", "Sent again with the same key it happens once")] : []),
];

const text = { schema: { type: "string" } };

const header = (name: string, description: string): Json => ({
  ...{ name, in: "header", required: false, description },
  schema: { type: "string" },
});

function jsonSchema(schema: z.ZodType): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input" });
  return rest;
}
