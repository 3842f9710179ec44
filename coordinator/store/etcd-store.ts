import { z } from "zod";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { pause } from "../../protocol/pause.ts";
import { type Clock, type Store, type StoreWrite, systemClock } from "../../protocol/ports.ts";
import { afterPrefix, type EtcdClient, fromBase64, toBase64 } from "./etcd-client.ts";
import type { Leadership } from "./etcd-leadership.ts";
import { adoptStore } from "./format.ts";

const rangeSchema = z.object({
  header: z.object({ revision: z.string() }),
  kvs: z.array(z.object({ key: z.string(), value: z.string().default("") })).default([]),
  more: z.boolean().default(false),
});
const txnSchema = z.object({
  succeeded: z.boolean().default(false),
  header: z.object({ revision: z.string() }),
  responses: z
    .array(
      z.object({
        response_range: z
          .object({ kvs: z.array(z.object({ value: z.string(), mod_revision: z.string() })).default([]) })
          .optional(),
      }),
    )
    .default([]),
});

/** The newest write of all leaders: each one names the write before it, so that none can be made late, or twice. */
interface LastWrite {
  readonly key: string;
  /** "0" before the first one. */
  revision: string;
  /** Of this leader's own. */
  count: number;
}
const pageKeys = 500;
const retryMs = 100;
/** etcd keeps each state of each key until it is told not to, and refuses writes when its quota is full: 2 GB unless told. */
const compactEveryMs = 5 * 60_000;

/**
 * A store in etcd, for the one that leads: what it holds is read once and kept in memory, as nobody else writes; each write
 * is one transaction that fails when the leader is another by now, or when the write before it is not the newest one: a
 * write that waited in a stopped node and comes late changes nothing. One whose answer was lost is made again, and
 * known by its name if it had been carried out.
 * @throws RingfoldError STORE_FAILED | STORE_NEWER | STALE_TERM
 */
export async function openEtcdStore(
  client: EtcdClient,
  {
    prefix,
    leadership,
    clock = systemClock,
  }: { readonly prefix: string; readonly leadership: Leadership; readonly clock?: Clock },
): Promise<Store> {
  const root = rootOf(prefix);
  const values = await readAll(client, root, leadership.lost);
  const last = await lastWriteOf(client, `${prefix}written`, leadership.lost);
  let tail: Promise<unknown> = Promise.resolve();
  const closed = new AbortController();
  const over = AbortSignal.any([closed.signal, leadership.lost]);
  keepCompact(client, last, clock, over).catch(() => {}); // the turn is over
  const write = async (writes: readonly StoreWrite[]): Promise<void> => {
    await commit(client, { ...leadership, clock }, { root, last }, lastOfEach(writes));
    for (const { key, value } of writes) {
      if (value === undefined) values.delete(key);
      else values.set(key, value.slice());
    }
  };
  const store: Store = {
    get: (key) => values.get(key)?.slice(),
    list: function* (prefix) {
      const keys = [...values.keys()].filter((key) => key.startsWith(prefix));
      keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      for (const key of keys) {
        const value = values.get(key);
        if (value !== undefined) yield { key, value: value.slice() };
      }
    },
    write: (writes) => {
      if (closed.signal.aborted)
        return Promise.reject(new RingfoldError("STORE_FAILED", "the store is closed"));
      const turn = tail.then(() => write(writes));
      tail = turn.catch(() => {}); // its caller hears of it
      return turn;
    },
    close: async () => {
      closed.abort();
      await tail;
    },
  };
  await adoptStore(store, `etcd ${prefix}`);
  return store;
}

/** What coordinators have written under this prefix, as of one moment. @throws RingfoldError STORE_FAILED */
export const readEtcdState = (
  client: EtcdClient,
  prefix: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Uint8Array>> => readAll(client, rootOf(prefix), signal);

const rootOf = (prefix: string): string => `${prefix}state/`;

/** etcd takes 128 operations in one transaction unless told otherwise (`--max-txn-ops`). */
const lastOfEach = (writes: readonly StoreWrite[]): StoreWrite[] =>
  [...new Map(writes.map(({ key, value }) => [key, value]))].map(([key, value]) => ({ key, value }));

async function commit(
  client: EtcdClient,
  { key, revision, lost, clock }: Leadership & { readonly clock: Clock },
  { root, last }: { readonly root: string; readonly last: LastWrite },
  writes: readonly StoreWrite[],
): Promise<void> {
  const name = toBase64(`${revision}/${++last.count}`);
  const lastKey = toBase64(last.key);
  const operations = writes.map(({ key, value }) =>
    value === undefined
      ? { request_delete_range: { key: toBase64(root + key) } }
      : { request_put: { key: toBase64(root + key), value: toBase64(value) } },
  );
  const txn = {
    compare: [
      { key: toBase64(key), target: "CREATE", result: "EQUAL", create_revision: revision },
      { key: lastKey, target: "MOD", result: "EQUAL", mod_revision: last.revision },
    ],
    success: [...operations, { request_put: { key: lastKey, value: name } }],
    failure: [{ request_range: { key: lastKey } }],
  };
  while (!lost.aborted) {
    try {
      const { succeeded, header, responses } = await client.call("kv/txn", txn, txnSchema, lost);
      const newest = responses[0]?.response_range?.kvs[0];
      if (!succeeded && newest?.value !== name) break;
      last.revision = succeeded ? header.revision : newest!.mod_revision;
      return;
    } catch (cause) {
      if (lost.aborted) break;
      if (toRingfoldError(cause).data.refused) throw cause;
      // No endpoint, for now; the lease says for how long that may go on.
      await pause(clock, retryMs, lost).catch(() => undefined);
    }
  }
  throw new RingfoldError("STALE_TERM", "another coordinator leads by now");
}

/**
 * Lets etcd forget how things were, as Kubernetes does: up to the newest write of the time before, so that whoever reads the state
 * page by page as of one revision has all that time for it. Until `over` aborts.
 */
async function keepCompact(
  client: EtcdClient,
  last: LastWrite,
  clock: Clock,
  over: AbortSignal,
): Promise<never> {
  for (;;) {
    const { revision } = last;
    await pause(clock, compactEveryMs, over);
    if (revision === "0") continue;
    // Somebody else may have done it; and where nobody answers there is a next time.
    await client.call("kv/compaction", { revision }, z.unknown(), over).catch(() => undefined);
  }
}

async function lastWriteOf(client: EtcdClient, key: string, signal: AbortSignal): Promise<LastWrite> {
  const schema = z.object({ kvs: z.array(z.object({ mod_revision: z.string() })).default([]) });
  const { kvs } = await client.call("kv/range", { key: toBase64(key) }, schema, signal);
  return { key, revision: kvs[0]?.mod_revision ?? "0", count: 0 };
}

/** Everything under `root` as of one revision. */
async function readAll(
  client: EtcdClient,
  root: string,
  signal: AbortSignal,
): Promise<Map<string, Uint8Array>> {
  const values = new Map<string, Uint8Array>();
  let revision: string | undefined;
  for (let from = root; ; ) {
    const body = { key: toBase64(from), range_end: toBase64(afterPrefix(root)), limit: String(pageKeys) };
    const page = await client.call(
      "kv/range",
      { ...body, ...(revision && { revision }) },
      rangeSchema,
      signal,
    );
    revision = page.header.revision;
    for (const { key, value } of page.kvs)
      values.set(Buffer.from(fromBase64(key)).toString().slice(root.length), fromBase64(value));
    if (!page.more) return values;
    from = `${Buffer.from(fromBase64(page.kvs.at(-1)!.key)).toString()}\0`;
  }
}
