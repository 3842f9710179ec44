import { describe, expect, test } from "vitest";
import { describeElection, type ElectionOptions, runElection } from "./election/election.ts";
import type { Transaction } from "./election/etcd.ts";

/** As in cluster.test.ts. */
const { RINGFOLD_SIM_SEEDS } = process.env;
const seeds = { least: 60, most: Number(RINGFOLD_SIM_SEEDS ?? 1_000) };
const timeBoxMs = RINGFOLD_SIM_SEEDS === undefined ? 8_000 : Number.POSITIVE_INFINITY;
const mutationSeedsMax = 200;
/** As issue and docs promise: the lease, a look, and the reading of the state. */
const leaderlessMsMax = 5_000;

test("whatever befalls coordinators and their way to etcd, what was acknowledged is there, once", {
  timeout: 3_600_000,
}, async () => {
  const startedMs = performance.now();
  for (let seed = 1; seed <= seeds.most; seed++) {
    if (seed > seeds.least && performance.now() - startedMs > timeBoxMs) break;
    const outcome = await runElection({ seed });
    expect.soft(outcome.violation, describeElection(outcome)).toBeUndefined();
    expect
      .soft(Math.max(0, ...outcome.leaderlessMs), describeElection(outcome))
      .toBeLessThan(leaderlessMsMax);
  }
});

test("seed 5 replays to the last event", async () => {
  const first = await runElection({ seed: 5 });
  const second = await runElection({ seed: 5, keepsLines: true });
  expect(second.traceHash).toBe(first.traceHash);
});

const asTransaction = (path: string, body: object): Transaction | undefined =>
  path === "kv/txn" ? (body as Transaction) : undefined;
/** Writes of the state; the other transactions are about who leads. */
const isWrite = ({ compare }: Transaction): boolean => compare.length > 1;

const mutations: readonly {
  readonly name: string;
  readonly shows: RegExp;
  readonly tamper: NonNullable<ElectionOptions["tamper"]>;
}[] = [
  {
    name: "a write does not ask who leads, nor what was written before it",
    shows: /^(a request happens once|no decision is lost|the log tells the state|terms grow)/,
    tamper: (path, body) => {
      const transaction = asTransaction(path, body);
      return transaction && isWrite(transaction) ? { ...transaction, compare: [] } : body;
    },
  },
  {
    name: "a write asks who leads, but not what was written before it",
    shows: /^(a request happens once|no decision is lost|the log tells the state|terms grow|progress)/,
    tamper: (path, body) => {
      const transaction = asTransaction(path, body);
      if (!transaction || !isWrite(transaction)) return body;
      return { ...transaction, compare: transaction.compare.slice(0, 1) };
    },
  },
  {
    name: "whoever asks leads",
    shows: /^(progress|terms grow|no part gives up|a request happens once)/,
    tamper: (path, body) => {
      const transaction = asTransaction(path, body);
      return transaction && !isWrite(transaction) ? { ...transaction, compare: [] } : body;
    },
  },
  {
    name: "the leader's key has no lease",
    shows: /^progress/,
    tamper: (path, body) => {
      const transaction = asTransaction(path, body);
      if (!transaction || isWrite(transaction)) return body;
      const success = transaction.success.map(({ request_put: put }) => ({
        request_put: { key: put!.key, value: put!.value },
      }));
      return { ...transaction, success };
    },
  },
];

describe("a planted bug is found:", () => {
  test.each(mutations)("$name", { timeout: 60_000 }, async ({ tamper, shows }) => {
    for (let seed = 1; seed <= mutationSeedsMax; seed++) {
      const { violation } = await runElection({ seed, tamper });
      if (violation === undefined) continue;
      expect(violation).toMatch(shows);
      return;
    }
    expect.unreachable(`not found in ${mutationSeedsMax} seeds`);
  });
});
