import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Coordinators } from "../../../protocol/api/coordinators.ts";
import { createApiClient } from "../../../scripts/commands/api-client.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { type CoordinatorServer, problem, startCoordinatorServer } from "./coordinator-server.ts";
import { jobView } from "./views.ts";

/** Two coordinators, and a third address at which nobody answers. */
let first: CoordinatorServer;
let second: CoordinatorServer;
const prune = { keepLast: 1, dryRun: false };
const nobody = "http://127.0.0.1:2";
beforeEach(async () => {
  [first, second] = await Promise.all([startCoordinatorServer(), startCoordinatorServer()]);
});
afterEach(async () => {
  await first[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
});

const client = (addresses: string, timeoutMs?: number) =>
  createApiClient({
    ...{ baseUrl: addresses, operatorToken: "token", signal: new AbortController().signal },
    ...(timeoutMs && { timeoutMs }),
  });
const standby = (leader?: string) =>
  problem(503, "COORDINATOR_STANDBY", "stands by", leader ? { leader } : {});
const asked = (server: CoordinatorServer) => server.requests.map(({ method, path }) => `${method} ${path}`);

describe("a command with several coordinators", () => {
  test("goes past who does not answer to who leads, and stays there", async () => {
    first.routes.set("GET /api/jobs/job-1", () => ({ body: jobView() }));
    const api = client(`${nobody},${first.url}`);
    await api.job("job-1");
    await api.job("job-1");
    expect(api.baseUrl).toBe(first.url);
    expect(asked(first)).toHaveLength(2);
  });

  test("is led by a standby to who leads, with an order that has no key too", async () => {
    first.routes.set("POST /api/models/digits/prune", () => standby(second.url));
    second.routes.set("POST /api/models/digits/prune", () => ({ body: { removed: [], kept: [] } }));
    await client(`${first.url},${second.url}`).pruneVersions("digits", prune);
    expect(second.requests.map(({ authorization }) => authorization)).toEqual(["Bearer token"]);
  });

  test("of which one was given, finds the other", async () => {
    first.routes.set("GET /api/jobs/job-1", () => standby(second.url));
    second.routes.set("GET /api/jobs/job-1", () => ({ body: jobView() }));
    const api = client(first.url);
    expect((await api.job("job-1")).id).toBe("job-1");
    expect(api.baseUrl).toBe(second.url);
  });

  test("waits while nobody leads, until somebody does", async () => {
    first.routes.set("GET /api/jobs/job-1", () => standby());
    const refusals = 2;
    second.routes.set("GET /api/jobs/job-1", () =>
      second.requests.length > refusals ? { body: jobView() } : standby(),
    );
    expect((await client(`${first.url},${second.url}`).job("job-1")).id).toBe("job-1");
  });

  test("never sends an order without a key a second time when the first may have arrived", async () => {
    first.routes.set("POST /api/models/digits/prune", () => "cut");
    await expect(client(`${first.url},${second.url}`).pruneVersions("digits", prune)).rejects.toMatchObject({
      code: "COORDINATOR_UNREACHABLE",
    });
    expect([...asked(first), ...asked(second)]).toHaveLength(1);
  });

  test.each(["cut", problem(409, "STALE_TERM", "another leads")] as const)(
    "sends one with a key to the next, with the same key (%j)",
    async (answer) => {
      first.routes.set("POST /api/jobs", () => answer);
      second.routes.set("POST /api/jobs", () => ({ status: 201, body: jobView() }));
      await client(`${first.url},${second.url}`).submitJob(exampleSpec());
      const keys = [...first.requests, ...second.requests].map(({ idempotencyKey }) => idempotencyKey);
      expect(keys).toHaveLength(2);
      expect(new Set(keys).size).toBe(1);
    },
  );

  test("names all of them when none answers in time", async () => {
    const refused = await client(`${nobody},http://127.0.0.1:4`, 300)
      .job("job-1")
      .catch((error) => error);
    expect(refused.message).toContain(`${nobody}, http://127.0.0.1:4`);
    expect(refused.rule.retryable).toBe(true);
  });
});

describe("whom a standby names", () => {
  const told = (given: string, leader: unknown) => {
    const coordinators = new Coordinators(given);
    coordinators.turnFrom(coordinators.url, leader);
    return coordinators.url;
  };
  test.each([
    ["is asked", "http://10.0.0.1:7070", "http://10.0.0.2:7070", "http://10.0.0.2:7070"],
    ["is not, by a way that is less safe", "https://10.0.0.1", "http://10.0.0.2:7070", "https://10.0.0.1"],
    [
      "is not, on a machine of the same name as this one",
      "http://10.0.0.1",
      "http://127.0.0.1",
      "http://10.0.0.1",
    ],
    ["is not, when it is no address", "http://10.0.0.1", "a restore", "http://10.0.0.1"],
    ["is asked where it is one of several", "http://a:1,http://b:1,http://c:1", "http://c:1/", "http://c:1"],
    ["is not where it is none of several", "http://a:1,http://b:1", "http://c:1", "http://b:1"],
  ])("%s", (_what, given, leader, url) => expect(told(given, leader)).toBe(url));

  test("is not asked again by that name when nobody is there", () => {
    const coordinators = new Coordinators("http://a:1");
    coordinators.turnFrom("http://a:1", "http://b:1");
    expect(coordinators.url).toBe("http://b:1");
    coordinators.turnFrom("http://b:1");
    coordinators.turnFrom("http://a:1", "http://b:1");
    expect(coordinators.url).toBe("http://a:1");
    coordinators.answered();
    coordinators.turnFrom("http://a:1", "http://b:1");
    expect(coordinators.url).toBe("http://b:1");
  });
});
