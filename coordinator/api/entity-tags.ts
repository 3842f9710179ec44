import type { Context } from "hono";
import type { Route } from "../../protocol/api/route.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { digestOf, Page, type Shown } from "./shown.ts";

/**
 * Entity tags, RFC 9110 section 8.8.3, all strong. That of a job has two parts, `"decided.shown"`: what was decided about
 * it, and all that is shown, which moves with every step that it trains. `If-Match` goes by the first, so that a job can be
 * steered while it runs, and not once somebody has changed it.
 */
export class Revised {
  readonly body: object;
  readonly revision: string;

  constructor(body: object, revision: string) {
    this.body = body;
    this.revision = revision;
  }
}

/** 200 with its tag, or 304 for who has it already. */
export function answerGet(c: Context, answer: unknown): Response {
  const { text, digest } = answer instanceof Page ? answer.shown : whole(answer);
  const tag = answer instanceof Revised ? `"${answer.revision}.${digest}"` : `"${digest}"`;
  c.header("etag", tag);
  // May be kept, and is to be asked about before it is used again.
  c.header("cache-control", "no-cache");
  const known = tagsOf(c.req.header("if-none-match"));
  if (known?.some((one) => one === "*" || one.replace(/^W\//, "") === tag)) return c.body(null, 304);
  c.header("content-type", "application/json");
  return c.body(text);
}

function whole(answer: unknown): Shown {
  const text = JSON.stringify(answer instanceof Revised ? answer.body : answer);
  return { text, digest: digestOf(text) };
}

/**
 * The revisions that a request names; weak tags match nothing here (section 13.1.1).
 * @throws RingfoldError REQUEST_INVALID on a route that cannot tell, rather than changing what the caller wants guarded
 */
export function readIfMatch(c: Context, route: Route): string[] | undefined {
  const tags = tagsOf(c.req.header("if-match"));
  if (!tags) return undefined;
  if (!route.conditional)
    throw new RingfoldError("REQUEST_INVALID", `${c.req.method} ${c.req.path} takes no If-Match`);
  return tags.map((tag) => (tag === "*" ? tag : (/^"([^".]*)[^"]*"$/.exec(tag)?.[1] ?? "")));
}

const tagsOf = (header: string | undefined): string[] | undefined =>
  header?.match(/(?:W\/)?"[^"]*"|\*/g) ?? (header === undefined ? undefined : []);
