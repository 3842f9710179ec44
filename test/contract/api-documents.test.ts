import { beforeEach, describe, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { jobViewSchema, problemSchema } from "../../protocol/messages/api.ts";
import {
  type DocumentView,
  documentDetailSchema,
  documentViewSchema,
} from "../../protocol/messages/document.ts";
import { readEventStream } from "../../scripts/commands/follow/event-stream.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** Pipelines and job configurations over HTTP. */

let bench: CoordinatorBench;
let request: ReturnType<typeof describedApi>;
let app: ReturnType<typeof createApi>;

beforeEach(async () => {
  bench = new CoordinatorBench();
  const coordinator = await bench.start();
  app = createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog });
  request = describedApi(app);
});

const operator = { authorization: "Bearer token" };
const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  request(path, {
    ...{ method, headers: { ...operator, ...headers } },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
const read = (path: string) => request(path, { headers: operator });
const refusal = async (answer: Response) => problemSchema.parse(await answer.json());
const pipeline = (name: string, length: number) => ({
  ...{ kind: "pipeline", name, content: { kind: "text", length }, addedBy: "me on a machine" },
});
const add = (document: object, headers?: Record<string, string>) =>
  send("POST", "/api/documents", document, headers);
const names = (items: readonly DocumentView[]) =>
  items.map(({ kind, name, version }) => `${kind} ${name}@${version}`);

async function list(query = ""): Promise<{ items: DocumentView[]; next: string | null }> {
  const { items, next } = (await (await request(`/api/documents${query}`)).json()) as Record<string, unknown>;
  return { items: documentViewSchema.array().parse(items), next: next as string | null };
}

test("registered once under a key, with all defaults, and found where the answer says", async () => {
  const first = await add(pipeline("words", 7), { "idempotency-key": "a" });
  expect(first.status).toBe(201);
  expect(first.headers.get("location")).toBe("/api/documents/pipeline/words/versions/1");
  const answer = documentDetailSchema.parse(await first.json());
  expect(answer).toMatchObject({ version: 1, aliases: [], content: { method: "bytes", length: 7 } });
  expect(await (await add(pipeline("words", 7), { "idempotency-key": "a" })).json()).toEqual(answer);
  expect(await (await read("/api/documents/pipeline/words/versions/1")).json()).toEqual(answer);
  expect(await refusal(await add(pipeline("words", 8), { "idempotency-key": "a" }))).toMatchObject({
    code: "KEY_REUSED",
  });
});

test("the list has pages, filters and a tag; what they say is for operators, as a script is a part of it", async () => {
  for (const [name, length] of [
    ["b", 1],
    ["a", 1],
    ["a", 2],
  ] as const)
    await add(pipeline(name, length));
  await bench.coordinator.submitJob(exampleSpec());
  const all = ["config digits@1", "pipeline a@1", "pipeline a@2", "pipeline b@1"];
  const first = await list("?limit=3");
  const rest = await list(`?limit=3&cursor=${first.next}`);
  expect([...names(first.items), ...names(rest.items)]).toEqual(all);
  expect(names((await list("?kind=pipeline&name=a")).items)).toEqual(["pipeline a@1", "pipeline a@2"]);
  const { digest } = first.items[1]!;
  expect(names((await list(`?digest=${digest}`)).items)).toEqual(["pipeline a@1", "pipeline b@1"]);
  const tag = (await request("/api/documents")).headers.get("etag")!;
  expect((await request("/api/documents", { headers: { "if-none-match": tag } })).status).toBe(304);
  expect(await refusal(await request("/api/documents/config/digits/versions/1"))).toMatchObject({
    code: "UNAUTHENTICATED",
  });
  const answer = await read("/api/documents/pipeline/a/versions/1/diff?with=a@2");
  expect(await answer.json()).toEqual({ differences: [{ path: "length", before: 1, after: 2 }] });
});

test("it is watched as other lists are", async () => {
  await add(pipeline("words", 7));
  const headers = { accept: "text/event-stream" };
  const stream = readEventStream((await app.request("/api/documents", { headers })).body!);
  const next = async () => {
    const { event, data } = (await stream.next()).value!;
    return {
      event,
      ...(JSON.parse(data) as { items: DocumentView[]; put: DocumentView[]; removed: string[] }),
    };
  };
  expect(names((await next()).items)).toEqual(["pipeline words@1"]);
  await send("PUT", "/api/documents/pipeline/words/aliases/stable", { version: 1, from: null });
  await bench.clock.advance(250);
  expect((await next()).put).toMatchObject([{ aliases: ["stable"] }]);
  await send("DELETE", "/api/documents/pipeline/words/aliases/stable");
  await send("DELETE", "/api/documents/pipeline/words/versions/1");
  await bench.clock.advance(250);
  expect(await next()).toMatchObject({ event: "change", put: [], removed: ["pipeline words@1"] });
  await stream.return(undefined);
});

test("an alias moves by compare-and-set", async () => {
  for (const length of [1, 2]) await add(pipeline("words", length));
  const move = (body: object) => send("PUT", "/api/documents/pipeline/words/aliases/stable", body);
  expect((await move({ version: 2, from: null })).status).toBe(200);
  expect(await refusal(await move({ version: 1, from: 1 }))).toMatchObject({ code: "CONFLICT" });
  const found = await read("/api/documents/pipeline/words/versions/stable");
  expect(documentDetailSchema.parse(await found.json())).toMatchObject({ version: 2, aliases: ["stable"] });
});

test("a job that was begun from one says so, under one key", async () => {
  const content = exampleSpec({ name: "digits" });
  await add({ kind: "config", name: "nightly", content, addedBy: "me" });
  const key = { "idempotency-key": "a" };
  const submit = (path: string) => send("POST", path, content, key);
  const first = jobViewSchema.parse(await (await submit("/api/jobs?config=nightly@1")).json());
  expect(first).toMatchObject({ id: "job-1", config: "nightly@1" });
  expect(jobViewSchema.parse(await (await submit("/api/jobs?config=nightly@1")).json()).id).toBe("job-1");
  expect(await refusal(await submit("/api/jobs"))).toMatchObject({ code: "KEY_REUSED" });
});

describe("what is none is refused, by its key", () => {
  test.each([
    [{ ...pipeline("words", 0) }, "content.length"],
    [{ ...pipeline("Words", 7) }, "name"],
    [{ ...pipeline("words", 7), kind: "recipe" }, "kind"],
    [{ kind: "config", name: "a", content: { name: "a" }, addedBy: "me" }, "content.model"],
    [{ kind: "config", name: "a", content: { ...exampleSpec(), colour: "red" }, addedBy: "me" }, "content"],
    [
      { kind: "config", name: "a", content: { ...exampleSpec(), search: {} }, addedBy: "me" },
      "content.search",
    ],
  ])("%#", async (document, key) => {
    const problem = await refusal(await add(document));
    expect(problem).toMatchObject({ code: "REQUEST_INVALID", status: 400 });
    expect(problem.detail).toContain(key);
    expect((await list()).items).toEqual([]);
  });
});
