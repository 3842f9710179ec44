import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { problemSchema } from "../../protocol/messages/api.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";

/** Pages of lists. */

let bench: CoordinatorBench;
let request: ReturnType<typeof describedApi>;
beforeEach(async () => {
  bench = new CoordinatorBench();
  const coordinator = await bench.start();
  request = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
});

/** Of any list. */
interface Item {
  readonly id: string;
  readonly name: string;
  readonly sequence: number;
  readonly event?: { readonly jobId?: string };
}
interface Page {
  readonly items: readonly Item[];
  readonly next: string | null;
}
const page = async (path: string): Promise<Page> => (await (await request(path)).json()) as Page;
const submit = (name = "digits") => bench.coordinator.submitJob(exampleSpec({ name }));
const ids = ({ items }: Page) => items.map(({ id }) => id);

test("pages together are the list, in order, with links to the following ones", async () => {
  for (let i = 0; i < 12; i++) await submit();
  const seen: string[] = [];
  let path: string | undefined = "/api/jobs?limit=5";
  while (path) {
    const answer = await request(path);
    seen.push(...ids((await answer.json()) as Page));
    path = /^<(.*)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
  }
  expect(seen).toEqual(Array.from({ length: 12 }, (_, i) => `job-${i + 1}`));
});

test("what comes between two pages neither repeats nor hides another", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 6 }), async (arrivals) => {
      const before = bench.coordinator.jobs().length;
      for (let i = 0; i < 3; i++) await submit();
      const seen: string[] = [];
      let cursor = "";
      for (const arriving of [...arrivals, ...Array(20).fill(0)]) {
        const { items, next } = await page(`/api/jobs?limit=3${cursor}`);
        seen.push(...items.map(({ id }) => id));
        for (let i = 0; i < arriving; i++) await submit();
        if (next === null) break;
        cursor = `&cursor=${next}`;
      }
      expect(seen.length).toBeGreaterThanOrEqual(Math.min(before + 3, 60));
      expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => `job-${i + 1}`));
    }),
    { numRuns: 10 },
  );
});

test("jobs are in the order of their numbers after a restart, too", async () => {
  for (let i = 0; i < 11; i++) await submit();
  bench.crash();
  const coordinator = await bench.start();
  request = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
  expect(ids(await page("/api/jobs")).slice(-2)).toEqual(["job-10", "job-11"]);
});

test("filters are for pages, too", async () => {
  for (const name of ["a", "b", "a", "b", "a"]) await submit(name);
  await bench.coordinator.steerJob("job-3", "cancel");
  expect(ids(await page("/api/jobs?name=a&limit=2"))).toEqual(["job-1", "job-3"]);
  expect(ids(await page("/api/jobs?name=a&state=cancelled"))).toEqual(["job-3"]);
  const { next } = await page("/api/jobs?name=a&limit=2");
  expect(await page(`/api/jobs?name=a&limit=2&cursor=${next}`)).toMatchObject({
    items: [{ id: "job-5" }],
    next: null,
  });
});

test("peers are listed by name", async () => {
  for (const index of [3, 1, 2]) await bench.worker(index);
  const { items } = await page("/api/peers?state=alive");
  expect(items.map(({ name }) => name)).toEqual(["worker-1", "worker-2", "worker-3"]);
});

test("the log of decisions has pages as lists have", async () => {
  for (let i = 0; i < 3; i++) await submit();
  const first = await page("/api/audit?limit=2");
  expect(first.items.map(({ sequence }) => sequence)).toEqual([1, 2]);
  const rest = await page(`/api/audit?cursor=${first.next}`);
  expect(rest.items[0]?.sequence).toBe(3);
  expect(rest.next).toBeNull();
  const about = await page("/api/audit?job=job-2");
  expect(about.items.length).toBeGreaterThan(0);
  expect(about.items).toEqual(rest.items.filter(({ event }) => event?.jobId === "job-2"));
});

describe("a query with mistakes is refused", () => {
  test.each([
    "limit=0",
    "limit=1001",
    "limit=many",
    "cursor=nonsense",
    "cursor=",
    `cursor=${Buffer.from('{"a":1}').toString("base64url")}`,
    `cursor=${Buffer.from("[[1]]").toString("base64url")}`,
    `cursor=${"x".repeat(513)}`,
    "state=lost",
    "colour=red",
  ])("%s", async (query) => {
    const refused = problemSchema.parse(await (await request(`/api/jobs?${query}`)).json());
    expect(refused).toMatchObject({ code: "REQUEST_INVALID", status: 400 });
  });
});
