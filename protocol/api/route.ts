import { z } from "zod";
import { aliasSchema, nameSchema, selectorSchema } from "../ids.ts";
import { documentKindSchema } from "../messages/document.ts";

/** How one route of the HTTP API is told: what it takes and what it answers, from which all else is inferred. */

export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** As OpenAPI writes it, with the names of `pathParameters`: `/api/jobs/{id}`. */
  readonly path: string;
  /** One line for the document. */
  readonly summary: string;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Code of a body that is JSON but not what `body` says; REQUEST_INVALID unless told. */
  readonly bodyCode?: "JOB_INVALID";
  /** Whether a request may come without a body; it means `{}` then. */
  readonly mayBeEmpty?: true;
  readonly answer: z.ZodType;
  /** 200 unless told. */
  readonly status?: 201;
  /** Path of what it makes, with properties of the answer. */
  readonly location?: string;
  /** Answers 503 with the same body where that says no. */
  readonly unready?: true;
  /** Takes an Idempotency-Key: sent again with the same key it happens once. */
  readonly once?: true;
  /** Needs the operator token though it changes nothing: what it answers is not for everybody. */
  readonly isPrivate?: true;
  /** Takes If-Match. */
  readonly conditional?: true;
  /** Answers server-sent events: always, or when the request accepts `text/event-stream`. */
  readonly events?: "always" | "accepted";
}

/** What stands in paths. */
export const pathParameters = {
  id: z.string(),
  name: z.string(),
  version: z.coerce.number().int().positive(),
  /** A number, or an alias. */
  selector: selectorSchema,
  alias: aliasSchema,
  project: nameSchema,
  model: nameSchema,
  kind: documentKindSchema,
} as const;
export type PathParameter = keyof typeof pathParameters;

/** `{id: string}` of `/api/jobs/{id}`. */
export type ParametersOf<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? {
      readonly [K in Extract<Name, PathParameter>]: z.output<(typeof pathParameters)[K]>;
    } & ParametersOf<Rest>
  : unknown;

export const parameterNames = (path: string): PathParameter[] =>
  [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as PathParameter);

export const fillPath = (path: string, values: Readonly<Record<string, unknown>>): string =>
  parameterNames(path).reduce(
    (text, name) => text.replace(`{${name}}`, encodeURIComponent(String(values[name]))),
    path,
  );

/** The longest page; a person reads a hundred at most. */
export const pageItemsMax = 1_000;

/**
 * A list in pages: `next` of one is the `cursor` of the following one, and null on the last. Items stand in an order of
 * their own, so what is added or removed between two pages neither repeats nor hides another.
 *
 * @param filters each is optional in the query
 */
export const listOf = <Item extends z.ZodType, Filters extends z.ZodRawShape>(
  item: Item,
  filters: Filters,
) => ({
  query: z.strictObject({
    limit: z.coerce.number().int().positive().max(pageItemsMax).default(100),
    cursor: z.string().max(512).optional(),
    ...z.object(filters).partial().shape,
  }),
  answer: z.object({ items: z.array(item), next: z.string().nullable() }),
  events: "accepted" as const,
});

type OutputOf<Schema> = Schema extends z.ZodType ? z.output<Schema> : undefined;
type InputOf<Schema> = Schema extends z.ZodType ? z.input<Schema> : undefined;
type Part<R extends Route, Key extends "query" | "body"> = R extends { readonly [K in Key]: infer Schema }
  ? Schema
  : undefined;

/** What a handler is given: validated, with defaults. */
export interface RequestOf<R extends Route> {
  readonly parameters: ParametersOf<R["path"]>;
  readonly query: OutputOf<Part<R, "query">>;
  readonly body: OutputOf<Part<R, "body">>;
}

/** What a client gives: the parameters of the path; query and body where the route has them. */
export type InputOfRoute<R extends Route> = ParametersOf<R["path"]> &
  (Part<R, "query"> extends z.ZodType ? { readonly query?: InputOf<Part<R, "query">> } : unknown) &
  (Part<R, "body"> extends z.ZodType ? { readonly body: InputOf<Part<R, "body">> } : unknown);

export type AnswerOf<R extends Route> = z.output<R["answer"]>;
