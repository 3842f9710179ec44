import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { restoredTerms } from "../../coordinator/decide/restored.ts";
import { DecisionLog, recordedState, replayLog } from "../../coordinator/decision-log.ts";
import { collections } from "../../coordinator/state.ts";
import { type EtcdClient, toBase64 } from "../../coordinator/store/etcd-client.ts";
import { campaign, type Leadership } from "../../coordinator/store/etcd-leadership.ts";
import { openEtcdStore } from "../../coordinator/store/etcd-store.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { systemClock } from "../../protocol/ports.ts";
import { decisionOf, decisionsKept, stateAfter } from "../../scripts/crash-points/content.ts";
import { restore } from "../../scripts/run/backup.ts";
import { backUpEtcd, restoreToEtcd } from "../../scripts/run/etcd-backup.ts";
import { EtcdCluster, etcdIsInstalled } from "../fixtures/etcd-cluster.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { FakeClock } from "../simulation/fake-clock.ts";

const rangeSchema = z.object({
  header: z.object({ revision: z.string() }),
  kvs: z.array(z.unknown()).default([]),
});

describe.skipIf(!etcdIsInstalled)("coordinators on three nodes of etcd", () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(3);
  });
  afterAll(() => etcd?.close());
  let prefixes = 0;
  const newPrefix = () => `cluster-${++prefixes}/`;

  async function lead(prefix: string, self: string, onStandby?: (leader: string) => void) {
    const ended = new AbortController();
    onTestFinished(() => ended.abort());
    const client = etcd.client();
    const leadership = await campaign(client, {
      prefix,
      self,
      signal: ended.signal,
      ...(onStandby && { onStandby }),
    });
    onTestFinished(() => leadership.resign());
    const store = await openEtcdStore(client, { prefix, leadership });
    return { leadership, store, log: logOver(store) };
  }
  const logOver = (store: Awaited<ReturnType<typeof openEtcdStore>>) =>
    new DecisionLog({ store, clock: systemClock, log: silentLog, term: 1, kept: decisionsKept });
  const decide = (log: DecisionLog, number: number) => {
    const { decision, writes } = decisionOf(number);
    return log.commit(decision, writes);
  };

  test("one leads and the others wait, and know who; when it resigns, the next one leads with all that was decided", async () => {
    const prefix = newPrefix();
    const first = await lead(prefix, "first");
    for (let i = 1; i <= 70; i++) await decide(first.log, i);
    const told = Promise.withResolvers<string>();
    const second = lead(prefix, "second", told.resolve);
    expect(await told.promise).toBe("first");
    await first.leadership.resign();
    const { store } = await second;
    expect(recordedState(store).get("counter/newest")).toBe(70);
    expect(replayLog(store)).toEqual(recordedState(store));
  });

  test("a deposed leader that does not know it yet writes nothing", async () => {
    const prefix = newPrefix();
    const first = await lead(prefix, "first");
    await decide(first.log, 1);
    // As if its process had been stopped: its lease ends, and nobody tells it.
    const asleep: Leadership = { ...first.leadership, lost: new AbortController().signal };
    const sleeper = await openEtcdStore(etcd.client(), { prefix, leadership: asleep });
    await first.leadership.resign();
    const second = await lead(prefix, "second");
    await decide(second.log, 2);
    await expect(decide(logOver(sleeper), 2)).rejects.toMatchObject({ code: "STALE_TERM" });
    await expect(decide(first.log, 2)).rejects.toMatchObject({ code: "STALE_TERM" });
    await decide(second.log, 3);
    expect(replayLog(second.store)).toEqual(recordedState(second.store));
    expect(recordedState(second.store).get("counter/newest")).toBe(3);
  });

  test("a write that comes late, or once more, changes nothing", async () => {
    const prefix = newPrefix();
    const { leadership } = await lead(prefix, "first");
    const client = etcd.client();
    const sent: { path: string; body: object }[] = [];
    const heard: EtcdClient = {
      call: async (path, body, schema, signal) => {
        if (path === "kv/txn") sent.push({ path, body });
        const answer = await client.call(path, body, schema, signal);
        // The answer to the first write is lost: it is made again.
        if (sent.length === 1 && path === "kv/txn") throw new RingfoldError("STORE_FAILED", "no answer");
        return answer;
      },
    };
    const store = await openEtcdStore(client, { prefix, leadership });
    const lossy = await openEtcdStore(heard, { prefix, leadership });
    const put = (text: string) => [{ key: "value", value: new TextEncoder().encode(text) }];
    await lossy.write(put("old"));
    expect(sent).toHaveLength(2);
    await lossy.write(put("new"));
    await client.call(sent[0]!.path, sent[0]!.body, z.unknown());
    const reread = await openEtcdStore(client, { prefix, leadership });
    expect(new TextDecoder().decode(reread.get("value"))).toBe("new");
    // Who has not seen the newest write does not write over it.
    await expect(store.write(put("blind"))).rejects.toMatchObject({ code: "STALE_TERM" });
  });

  test("a node of etcd dies and one is cut off: decisions go on while two are left, each once", async () => {
    const { store, log, leadership } = await lead(newPrefix(), "first");
    for (let i = 1; i <= 10; i++) await decide(log, i);
    await etcd.kill(0);
    for (let i = 11; i <= 20; i++) await decide(log, i);
    etcd.startNode(0);
    await etcd.ready();
    etcd.signal(1, "SIGSTOP");
    for (let i = 21; i <= 30; i++) await decide(log, i);
    etcd.signal(1, "SIGCONT");
    for (let i = 31; i <= 40; i++) await decide(log, i);
    expect(leadership.lost.aborted).toBe(false);
    expect(log.page({ after: 0, sinceMs: 0, limit: 1_000 }).last).toBe(40);
    expect(replayLog(store)).toEqual(recordedState(store));
  });

  test("a decision over as many records as one write takes goes over into the snapshot like any other", async () => {
    const { store, log } = await lead(newPrefix(), "first");
    const many = Array.from({ length: limits.storeWritesMax }, (_, i) =>
      collections.counters.put(`of-${i}`, 1),
    );
    await log.commit(decisionOf(1).decision, many);
    for (let i = 1; i <= decisionsKept + 40; i++) await decide(log, i);
    expect([...store.list("snapshot/")].length).toBeGreaterThanOrEqual(many.length);
    expect(replayLog(store)).toEqual(recordedState(store));
  });

  test("what is no more of use is compacted, and what stands stays", async () => {
    const prefix = newPrefix();
    const { leadership } = await lead(prefix, "first");
    const client = etcd.client();
    const clock = new FakeClock();
    const store = await openEtcdStore(client, { prefix, leadership, clock });
    onTestFinished(() => store.close());
    const put = (text: string) => [{ key: "value", value: new TextEncoder().encode(text) }];
    await store.write(put("old"));
    const asOf = (revision: string) =>
      client.call("kv/range", { key: toBase64(`${prefix}state/value`), revision }, rangeSchema);
    const { revision } = (await asOf("0")).header;
    await store.write(put("new"));
    expect((await asOf(revision)).kvs).toHaveLength(1);
    const compacted = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let count = 0;
    const { call } = client;
    client.call = async (...request) => {
      const answer = await call(...request);
      if (request[0] === "kv/compaction") compacted[count++]!.resolve();
      return answer as never;
    };
    for (const { promise } of compacted) {
      await clock.advance(5 * 60_000);
      await promise; // the first time only what was before this store was opened
    }
    await expect(asOf(revision)).rejects.toMatchObject({ code: "STORE_FAILED", data: { refused: true } });
    const reread = await openEtcdStore(client, { prefix, leadership, clock });
    expect(new TextDecoder().decode(reread.get("value"))).toBe("new");
  });

  test("a backup of what is there is of one moment, and comes back under another prefix or in a folder", async () => {
    const prefix = newPrefix();
    const { store, log } = await lead(prefix, "first");
    const secrets = { identityKey: Uint8Array.of(1, 2, 3), operatorToken: "token" };
    await store.write([collections.shared.put("coordinator", secrets)]);
    for (let i = 1; i <= 70; i++) await decide(log, i);
    const folder = join(temporaryFolder(), "backup");
    const signal = AbortSignal.timeout(30_000);
    const { endpoints } = etcd;
    await backUpEtcd({ endpoints, prefix }, folder, signal);
    await expect(backUpEtcd({ endpoints, prefix }, folder, signal)).rejects.toMatchObject({
      code: "CONFLICT",
    });
    await decide(log, 71);
    const next = { endpoints, prefix: newPrefix() };
    await restoreToEtcd(folder, next, { log: silentLog, signal });
    await expect(restoreToEtcd(folder, next, { log: silentLog, signal })).rejects.toMatchObject({
      code: "CONFLICT",
    });
    const restored = await lead(next.prefix, "second");
    expect(recordedState(restored.store)).toEqual(
      new Map([...stateAfter(70), ["counter/term", restoredTerms]]),
    );
    expect(replayLog(restored.store)).toEqual(recordedState(restored.store));
    expect(collections.shared.read(restored.store, "coordinator")).toEqual(secrets);
    expect(readFileSync(join(folder, "operator-token"), "utf8")).toBe("token\n");
    const place = join(temporaryFolder(), "alone");
    await restore(folder, place, { force: false, nowMs: 0, log: silentLog });
    expect(readFileSync(join(place, "identity.key"))).toEqual(Buffer.from(secrets.identityKey));
  });

  test("without a majority nothing is acknowledged, and the leader steps back", async () => {
    const { log, leadership } = await lead(newPrefix(), "first");
    await decide(log, 1);
    etcd.signal(0, "SIGSTOP");
    etcd.signal(2, "SIGSTOP");
    onTestFinished(async () => {
      etcd.signal(0, "SIGCONT");
      etcd.signal(2, "SIGCONT");
      await etcd.ready();
    });
    await expect(decide(log, 2)).rejects.toMatchObject({ code: "STALE_TERM" });
    expect(leadership.lost.aborted).toBe(true);
  });
});
