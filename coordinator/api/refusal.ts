import type { RingfoldError } from "../../protocol/errors.ts";
import type { Problem } from "../../protocol/messages/api.ts";

/** application/problem+json, RFC 9457. */
export function refuse(error: RingfoldError, headers: Readonly<Record<string, string>> = {}): Response {
  const status = error.rule.http;
  const problem: Problem = {
    type: `urn:ringfold:error:${error.code}`,
    title: error.code,
    status,
    detail: error.message,
    code: error.code,
    data: { ...error.data },
    remedy: error.remedy,
  };
  return Response.json(problem, {
    status,
    headers: { ...headers, "content-type": "application/problem+json" },
  });
}
