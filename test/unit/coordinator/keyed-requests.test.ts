import { expect, test } from "vitest";
import { DecisionLog } from "../../../coordinator/decision-log.ts";
import { KeyedRequests } from "../../../coordinator/keyed-requests.ts";
import { SerialQueue } from "../../../coordinator/serial-queue.ts";
import { limits } from "../../../protocol/limits.ts";
import type { AuditEvent } from "../../../protocol/messages/audit.ts";
import type { Store } from "../../../protocol/ports.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

function open(store: Store) {
  const decisions = new DecisionLog({ store, clock: new FakeClock(), log: silentLog, term: 1 });
  const requests = new KeyedRequests({ store, decisions, queue: new SerialQueue() });
  let made = 0;
  const submit = (key: string) =>
    requests.once(
      { key, fingerprint: "0".repeat(64) },
      async () => {
        const event: AuditEvent = { kind: "job-submitted", jobId: `job-${++made}` };
        await decisions.commit(
          { who: { kind: "operator" }, subject: "", event, reason: "", isNews: false },
          [],
        );
        return event;
      },
      { made: "job-submitted", again: (event): AuditEvent => event },
    );
  return { submit, made: () => made };
}

test("the newest keys are kept, in memory and in the store, also after a restart", async () => {
  const store = openMemoryStore();
  const first = open(store);
  for (let i = 0; i < limits.requestKeysKept + 2; i++) await first.submit(`key-${i}`);
  expect([...store.list("request/")]).toHaveLength(limits.requestKeysKept);
  for (const { submit, made } of [first, open(store)]) {
    const before = made();
    expect(await submit("key-2")).toEqual({ kind: "job-submitted", jobId: "job-3" });
    expect(made()).toBe(before);
  }
  await first.submit("key-0");
  expect(first.made()).toBe(limits.requestKeysKept + 3);
  expect([...store.list("request/")]).toHaveLength(limits.requestKeysKept);
});

test("a decision that somebody else asks for carries no key", async () => {
  const store = openMemoryStore();
  const decisions = new DecisionLog({ store, clock: new FakeClock(), log: silentLog, term: 1 });
  const requests = new KeyedRequests({ store, decisions, queue: new SerialQueue() });
  await requests.once({ key: "a", fingerprint: "0".repeat(64) }, async () => "nothing to decide", {
    made: "told-before",
    again: String,
  });
  const event = { kind: "told-before" } as const;
  await decisions.commit({ who: { kind: "coordinator" }, subject: "", event, reason: "", isNews: false }, []);
  expect([...store.list("request/")]).toEqual([]);
});
