import fc from "fast-check";
import { expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import type { Route } from "../../protocol/api/route.ts";
import { routes } from "../../protocol/api/routes.ts";
import { isErrorCode } from "../../protocol/errors.ts";
import { problemSchema } from "../../protocol/messages/api.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** Whatever comes in on any route is answered as the document says, with a code, and loses nothing. */

const asked = Object.values<Route>(routes).filter(({ events }) => events !== "always");
const word = fc.oneof(
  fc.string({ maxLength: 24 }),
  fc.constantFrom("job-1", "digits", "1", "__proto__", "..", "%00"),
);
const body = fc.oneof(
  fc.json(),
  fc.string(),
  fc.constant(JSON.stringify(exampleSpec())),
  fc.constantFrom("", '{"version":1}', '{"reason":"why"}'),
  fc.tuple(fc.integer(), word).map(([epochs, name]) => JSON.stringify({ ...exampleSpec(), epochs, name })),
);
const headerText = fc.stringMatching(/^[ -~]{0,40}$/);
const headers = fc.record(
  {
    "idempotency-key": headerText,
    "if-match": headerText,
    "if-none-match": headerText,
    "content-type": headerText,
    "last-event-id": headerText,
  },
  { requiredKeys: [] },
);
const request = fc.record({
  // What makes something is tried as often as all the others together.
  route: fc.oneof(fc.constantFrom(...asked), fc.constantFrom(...asked.filter(({ once }) => once))),
  words: fc.array(word, { minLength: 2, maxLength: 2 }),
  query: fc.dictionary(fc.constantFrom("limit", "cursor", "state", "name", "job", "sinceMs", "x"), word),
  body,
  headers,
});

test("property: any request on any route is answered with what the document says, never with a defect", async () => {
  const bench = new CoordinatorBench();
  const coordinator = await bench.start();
  const api = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
  await coordinator.submitJob(exampleSpec({ name: "kept" }));
  await fc.assert(
    fc.asyncProperty(request, async ({ route, words, query, body, headers }) => {
      const left = [...words];
      const path = route.path.replaceAll(/\{\w+\}/g, () => encodeURIComponent(left.pop()!));
      const answer = await api(`${path}?${new URLSearchParams(query)}`, {
        method: route.method,
        headers: { ...headers, authorization: "Bearer token" },
        ...(route.method === "GET" ? {} : { body }),
      });
      if (answer.status < 400) return;
      const problem = problemSchema.parse(await answer.json());
      expect(isErrorCode(problem.code)).toBe(true);
      // Without a socket nobody can be told how it is seen.
      if (!["/api/observed", "/api/reachability"].includes(route.path))
        expect(answer.status).toBeLessThan(500);
    }),
    { numRuns: 1_000 },
  );
  expect(coordinator.job("job-1").spec.name).toBe("kept");
});
