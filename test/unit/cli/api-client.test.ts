import { afterEach, beforeEach, expect, test } from "vitest";
import { createApiClient } from "../../../scripts/commands/api-client.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { type CoordinatorServer, problem, startCoordinatorServer } from "./coordinator-server.ts";
import { jobView, peerView } from "./views.ts";

let server: CoordinatorServer;
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());

const client = (timeoutMs?: number) =>
  createApiClient({
    ...{ baseUrl: server.url, operatorToken: "token", signal: new AbortController().signal },
    ...(timeoutMs && { timeoutMs }),
  });
const keys = () => server.requests.map(({ idempotencyKey }) => idempotencyKey);

test("a submission whose answer is lost is sent again with its key, until there is one", async () => {
  const answers = [
    "cut",
    "cut",
    problem(409, "KEY_IN_USE", "not yet"),
    { status: 201, body: jobView() },
  ] as const;
  server.routes.set("POST /api/jobs", () => answers[server.requests.length - 1]!);
  expect((await client().submitJob(exampleSpec())).id).toBe("job-1");
  expect(new Set(keys()).size).toBe(1);
  expect(keys()[0]).toMatch(/^"[0-9a-f-]{36}"$/);
  expect(keys()).toHaveLength(4);
});

test("two submissions have two keys", async () => {
  server.routes.set("POST /api/jobs", () => ({ status: 201, body: jobView() }));
  for (let i = 0; i < 2; i++) await client().submitJob(exampleSpec());
  expect(new Set(keys()).size).toBe(2);
});

test("a refusal is an answer, and is not asked for again", async () => {
  server.routes.set("POST /api/jobs", () => problem(422, "JOB_INVALID", "epochs: too many"));
  await expect(client().submitJob(exampleSpec())).rejects.toMatchObject({ code: "JOB_INVALID" });
  expect(server.requests).toHaveLength(1);
});

test("what has no key is not repeated", async () => {
  server.routes.set("POST /api/models/digits/prune", () => "cut");
  await expect(client().pruneVersions("digits", { keepLast: 1, dryRun: false })).rejects.toMatchObject({
    code: "COORDINATOR_UNREACHABLE",
  });
  expect(server.requests).toHaveLength(1);
});

test("it gives up at its deadline", async () => {
  server.routes.set("POST /api/jobs", () => "cut");
  await expect(client(600).submitJob(exampleSpec())).rejects.toMatchObject({
    code: "REQUEST_TIMEOUT",
    data: { elapsedMs: 600 },
  });
});

test("a list is read page by page", async () => {
  const page = (index: number, next: string | null) => ({
    body: { items: [peerView({ name: `agent-${index}` })], next },
  });
  server.routes.set("GET /api/peers?limit=1000", () => page(1, "a&b"));
  server.routes.set("GET /api/peers?limit=1000&cursor=a%26b", () => page(2, null));
  expect((await client().peers()).map(({ name }) => name)).toEqual(["agent-1", "agent-2"]);
});
