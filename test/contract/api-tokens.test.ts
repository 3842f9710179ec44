import { beforeEach, expect, test } from "vitest";
import { createApi } from "../../coordinator/api/app.ts";
import { readToken } from "../../protocol/credentials.ts";
import { issuedTokenSchema, problemSchema } from "../../protocol/messages/api.ts";
import type { AuditEntry } from "../../protocol/messages/audit.ts";
import { join } from "../../protocol/messages/membership.ts";
import { CoordinatorBench, coordinatorId } from "../fixtures/coordinator-bench.ts";
import { describedApi } from "../fixtures/described-api.ts";
import { exampleHello } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { memoryPeerId } from "../simulation/memory-network.ts";

/** Join tokens: each one made or taken back is a decision, and no secret stands in it. */

let bench: CoordinatorBench;
let request: ReturnType<typeof describedApi>;

async function start(): Promise<void> {
  const coordinator = await bench.start();
  request = describedApi(
    createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog }),
  );
}
beforeEach(async () => {
  bench = new CoordinatorBench();
  await start();
});

const ask = (method: string, path: string, body: object, key?: string) =>
  request(path, {
    ...{ method, body: JSON.stringify(body) },
    headers: { authorization: "Bearer token", ...(key !== undefined && { "idempotency-key": key }) },
  });
const make = async (key?: string, body: object = {}) =>
  issuedTokenSchema.parse(await (await ask("POST", "/api/tokens", body, key)).json());
const told = async (kind: string): Promise<AuditEntry[]> =>
  ((await (await request(`/api/audit?kind=${kind}`)).json()) as { items: AuditEntry[] }).items;
const joinWith = (token: string) =>
  bench.cluster
    .open(memoryPeerId(1))
    .request(coordinatorId, join, { hello: exampleHello(1), token, membership: null });

test("making one is a decision of the operator, which holds what it is for and not the token", async () => {
  const { token, id } = await make(undefined, { expiresInSeconds: 60 });
  const expiresAtMs = bench.clock.nowMs() + 60_000;
  const [entry] = await told("token-created");
  expect(entry).toMatchObject({
    who: { kind: "operator" },
    event: { kind: "token-created", token: id, role: "worker", expiresAtMs, addresses: true },
  });
  const everything = JSON.stringify(bench.coordinator.audit({ after: 0, limit: 1_000 }));
  for (const part of token.split(".")) expect(everything).not.toContain(part);
  expect(await readToken(token, bench.clock.nowMs())).toMatchObject({ jti: id });
});

test("asked for again with the same key it is the same token, also of the next coordinator", async () => {
  const first = await make("a");
  expect(await make("a")).toEqual(first);
  bench.crash();
  await start();
  expect(await make("a")).toEqual(first);
  expect(await told("token-created")).toHaveLength(1);
  expect(await make("b")).not.toEqual(first);
});

test("taken back it admits nobody, and that is a decision too", async () => {
  const { token, id } = await make();
  const kept = await make();
  expect((await ask("DELETE", `/api/tokens/${id}`, {})).status).toBe(200);
  expect((await ask("DELETE", `/api/tokens/${id}`, {})).status).toBe(200);
  expect(await told("token-revoked")).toMatchObject([{ who: { kind: "operator" }, event: { token: id } }]);
  bench.crash();
  await start();
  await expect(joinWith(token)).rejects.toMatchObject({
    ...{ code: "TOKEN_INVALID", message: expect.stringContaining("taken back") },
  });
  await expect(joinWith(kept.token)).resolves.toBeDefined();
});

test("one that was never made is not there, and neither is one that is long out of date", async () => {
  const refusal = async (id: string) =>
    problemSchema.parse(await (await ask("DELETE", `/api/tokens/${id}`, {})).json());
  expect(await refusal("none")).toMatchObject({ code: "NOT_FOUND" });
  const { id } = await make(undefined, { expiresInSeconds: 1 });
  await bench.clock.advance(2_000);
  await make();
  expect(await refusal(id)).toMatchObject({ code: "NOT_FOUND" });
});
