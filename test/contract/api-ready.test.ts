import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { standbyApi } from "../../scripts/run/standby-api.ts";
import { CoordinatorBench } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { openMemoryStore } from "../simulation/memory-store.ts";

/** /healthz says that the process answers; /readyz whether it decides, and if not, why. */

let bench: CoordinatorBench;
let write: (() => Promise<void>) | undefined;
let request: ReturnType<typeof describedApi>;

beforeEach(async () => {
  bench = new CoordinatorBench();
  write = undefined;
  const store = openMemoryStore(bench.disk);
  const coordinator = await bench.start({
    ...store,
    write: async (writes) => {
      await write?.();
      await store.write(writes);
    },
  });
  const urls = ["http://10.0.0.1:7070", "http://10.0.0.2:7070"];
  request = describedApi(
    createApi({
      ...{ coordinator, operatorToken: "token", addresses: () => [], log: silentLog },
      coordinatorUrls: () => urls,
    }),
  );
});

const ready = async () => {
  const response = await request("/readyz");
  return { status: response.status, body: await response.json() };
};

test("a coordinator that leads and can write is ready, and names the others", async () => {
  expect(await ready()).toMatchObject({
    status: 200,
    body: {
      ready: true,
      standby: false,
      reasons: [],
      coordinators: expect.arrayContaining(["http://10.0.0.2:7070"]),
    },
  });
});

test("with a full disk it is not, says why, and is again when there is room", async () => {
  write = () => Promise.reject(new RingfoldError("STORE_FAILED", "no space left on the disk"));
  expect(await ready()).toMatchObject({
    status: 503,
    body: { ready: false, reasons: ["the store takes no writes: no space left on the disk"] },
  });
  expect((await request("/healthz")).status).toBe(200);
  write = undefined;
  await bench.clock.advance(1_000);
  expect((await ready()).status).toBe(200);
});

test("with a store that does not answer it is not, after two seconds", async () => {
  write = () => new Promise(() => {});
  const asked = ready();
  await bench.clock.advance(2_000);
  expect(await asked).toMatchObject({
    status: 503,
    body: { reasons: [expect.stringContaining("within 2 s")] },
  });
});

test.each([
  ["http://10.0.0.1:7070", { leader: "http://10.0.0.1:7070" }],
  ["", {}],
])("one that stands by is not, and names who leads (%j)", async (leader, told) => {
  const app = standbyApi({ leader: () => leader, coordinatorUrls: () => ["http://10.0.0.1:7070"] });
  const response = await app.request("/readyz");
  expect(response.status).toBe(503);
  const body = (await response.json()) as object;
  expect(body).toMatchObject({
    ready: false,
    standby: true,
    ...told,
    reasons: [expect.stringContaining("stands by")],
  });
  expect("leader" in body).toBe(leader !== "");
  expect(await (await app.request("/api/jobs")).json()).toMatchObject({
    code: "COORDINATOR_STANDBY",
    data: told,
  });
});
