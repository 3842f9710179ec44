import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { pause } from "../../protocol/pause.ts";
import { type Clock, systemClock } from "../../protocol/ports.ts";
import { type EtcdClient, fromBase64, toBase64 } from "./etcd-client.ts";

/** One coordinator's turn: as long as its lease lives, nobody else leads. */
export interface Leadership {
  /** The leader's key and the revision that made it: every write is compared with it, so a deposed leader writes nothing. */
  readonly key: string;
  readonly revision: string;
  /** Aborts when the turn is over, by itself or by `resign`. */
  readonly lost: AbortSignal;
  /** Lets the next one lead at once. */
  resign(): Promise<void>;
}

/** What a lease is measured by. */
export interface LeaseTime {
  readonly clock: Clock;
  /** Monotonic milliseconds: a clock that is set must not make a lease longer. */
  readonly nowMs: () => number;
}

export const systemTime: LeaseTime = { clock: systemClock, nowMs: () => performance.now() };

const grantSchema = z.object({ ID: z.string(), TTL: z.string() });
const keepAliveSchema = z.object({ result: z.object({ TTL: z.string().default("0") }) });
const leaderSchema = z.object({
  succeeded: z.boolean().default(false),
  header: z.object({ revision: z.string() }),
  responses: z
    .array(
      z.object({
        response_range: z
          .object({
            kvs: z
              .array(
                z.object({ value: z.string(), create_revision: z.string(), lease: z.string().default("0") }),
              )
              .default([]),
          })
          .optional(),
      }),
    )
    .default([]),
});
const anything = z.unknown();

/**
 * Waits until this coordinator leads: the key under `prefix` is made by one of them, with a lease that the others wait out.
 * @throws RingfoldError STORE_DENIED; the reason of `signal`
 * @param self told to who asks for the leader
 * @param onStandby called with what the present leader says of itself, when that changes
 */
export async function campaign(
  client: EtcdClient,
  options: {
    readonly prefix: string;
    readonly self: string;
    readonly signal: AbortSignal;
    readonly onStandby?: (leader: string) => void;
    /** The simulator has its own. */
    readonly time?: LeaseTime;
  },
): Promise<Leadership> {
  const { time = systemTime } = options;
  const key = `${options.prefix}leader`;
  let leader: string | undefined;
  let lease: string | undefined;
  try {
    for (;;) {
      options.signal.throwIfAborted();
      const askedMs = time.nowMs();
      const answer = await tryToLead(client, key, options, lease).catch((cause: unknown) => {
        options.signal.throwIfAborted();
        if (!(cause instanceof RingfoldError) || cause.code === "STORE_DENIED") throw cause;
        return undefined; // etcd is between leaders itself, or our lease has run out
      });
      lease = answer?.lease;
      if (answer?.revision !== undefined)
        return holdOn(client, { ...answer, key, revision: answer.revision, askedMs }, time);
      if (answer?.leader !== undefined && answer.leader !== leader) {
        leader = answer.leader;
        options.onStandby?.(leader);
      }
      await pause(time.clock, limits.leaderLookMs, options.signal);
    }
  } catch (cause) {
    if (lease !== undefined) await revoke(client, lease);
    throw cause;
  }
}

async function tryToLead(
  client: EtcdClient,
  key: string,
  { self, signal }: { readonly self: string; readonly signal: AbortSignal },
  lease?: string,
): Promise<{ lease: string; revision?: string; leader?: string }> {
  const ID =
    lease ?? (await client.call("lease/grant", { TTL: limits.leaseSeconds }, grantSchema, signal)).ID;
  const { result } = await client.call("lease/keepalive", { ID }, keepAliveSchema, signal);
  if (Number(result.TTL) === 0) throw new RingfoldError("STORE_FAILED", "the lease has run out");
  const range = { request_range: { key: toBase64(key) } };
  const txn = {
    compare: [{ key: toBase64(key), target: "CREATE", result: "EQUAL", create_revision: "0" }],
    success: [{ request_put: { key: toBase64(key), value: toBase64(self), lease: ID } }],
    failure: [range],
  };
  const answer = await client.call("kv/txn", txn, leaderSchema, signal);
  if (answer.succeeded) return { lease: ID, revision: answer.header.revision };
  const held = answer.responses[0]?.response_range?.kvs[0];
  if (!held) return { lease: ID };
  // An earlier attempt of ours had succeeded, and its answer was lost.
  if (held.lease === ID) return { lease: ID, revision: held.create_revision };
  return { lease: ID, leader: Buffer.from(fromBase64(held.value)).toString() };
}

function holdOn(
  client: EtcdClient,
  {
    key,
    revision,
    lease,
    askedMs,
  }: {
    readonly key: string;
    readonly revision: string;
    readonly lease: string;
    /** When the renewal was asked for that the lease has been counted from. */
    readonly askedMs: number;
  },
  { clock, nowMs }: LeaseTime,
): Leadership {
  const lost = new AbortController();
  const leaseMs = 1_000 * limits.leaseSeconds;
  let renewedMs = askedMs;
  let cancelEnd = () => {};
  /**
   * Who cannot renew it must believe that it is gone before others may, also while it waits for an answer: three nodes of etcd
   * that do not answer take 2.4 s.
   */
  const renewed = (fromMs: number) => {
    cancelEnd();
    renewedMs = fromMs;
    cancelEnd = clock.after(Math.max(0, fromMs + leaseMs - nowMs()), () => {
      lost.abort();
      // etcd counts from when it has renewed it, or chosen a leader of its own: the next one need not wait for that.
      void revoke(client, lease);
    });
  };
  lost.signal.addEventListener("abort", () => cancelEnd(), { once: true });
  const renew = async () => {
    const fromMs = nowMs();
    const { result } = await client.call("lease/keepalive", { ID: lease }, keepAliveSchema, lost.signal);
    if (Number(result.TTL) === 0) lost.abort();
    else if (!lost.signal.aborted) renewed(Math.max(renewedMs, fromMs));
  };
  const keep = async () => {
    while (!lost.signal.aborted) {
      // One that is late does not hold up the next: nodes that choose a leader answer old questions last. Nine at most are under way.
      const isLate = nowMs() - renewedMs > leaseMs / 4;
      await pause(clock, isLate ? limits.leaderLookMs : leaseMs / 5, lost.signal);
      renew().catch(() => {}); // there is a next time, or the end
    }
  };
  renewed(askedMs);
  keep().catch(() => lost.abort());
  return {
    key,
    revision,
    lost: lost.signal,
    resign: async () => {
      if (lost.signal.aborted) return;
      lost.abort();
      await revoke(client, lease);
    },
  };
}

/** Where it fails, the lease runs out by itself. */
const revoke = (client: EtcdClient, lease: string): Promise<unknown> =>
  client.call("lease/revoke", { ID: lease }, anything).catch(() => undefined);
