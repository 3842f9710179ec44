import { Validator } from "@seriousme/openapi-schema-validator";
import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import type { Coordinator } from "../../coordinator/port.ts";
import type { Route } from "../../protocol/api/route.ts";
import { routes } from "../../protocol/api/routes.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

const operatorToken = "token";
let coordinator: Coordinator;
beforeEach(async () => {
  coordinator = await new CoordinatorBench().start();
});
const serve = (changed: Coordinator = coordinator) =>
  createApi({ coordinator: changed, operatorToken, addresses: () => [], log: silentLog });

test("what is served at /openapi.json is OpenAPI 3.1", async () => {
  const response = await serve().request("/openapi.json");
  const document = (await response.json()) as Record<string, unknown>;
  expect(document.openapi).toBe("3.1.0");
  const validator = new Validator();
  expect(await validator.validate(structuredClone(document))).toEqual({ valid: true });
  expect(() => validator.resolveRefs()).not.toThrow();
});

test("the document has each route of the table, under its name, with its token", async () => {
  const { paths } = (await (await serve().request("/openapi.json")).json()) as {
    paths: Record<string, Record<string, { operationId: string; security: unknown[] }>>;
  };
  const described = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { operationId, security }]) => ({
      ...{ name: operationId, method: method.toUpperCase(), path },
      guarded: security.length > 0,
    })),
  );
  const told = Object.entries(routes as Record<string, Route>).map(([name, { method, path, isPrivate }]) => ({
    ...{ name, method, path },
    guarded: method !== "GET" || isPrivate === true,
  }));
  expect(described).toHaveLength(told.length);
  expect(described).toEqual(expect.arrayContaining(told));
});

test("an answer that the document does not allow is noticed", async () => {
  await coordinator.submitJob(exampleSpec());
  const changed = (change: object) =>
    describedApi(serve({ ...coordinator, job: (id) => ({ ...coordinator.job(id), ...change }) }));
  await expect(changed({})("/api/jobs/job-1")).resolves.toMatchObject({ status: 200 });
  for (const change of [{ state: "lost" }, { secret: 1 }, { submittedAtMs: "today" }])
    await expect(changed(change)("/api/jobs/job-1")).rejects.toThrow("GET /api/jobs/job-1: 200");
});
