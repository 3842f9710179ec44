import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ReplicaState, Router, selectReplica } from "../../../agent/serving/router.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const replica = (peerId: string, state: Partial<ReplicaState> = {}): ReplicaState => ({
  peerId,
  local: false,
  inFlight: 0,
  latency: null,
  asideUntilMs: 0,
  ...state,
});
const measured = (latencyMs: number, measuredAtMs = 1_000) => ({ latency: { latencyMs, measuredAtMs } });

describe("selectReplica", () => {
  test.each<[string, ReplicaState[], string | null]>([
    ["nobody", [], null],
    ["the only one", [replica("a")], "a"],
    ["the faster", [replica("a", measured(20)), replica("b", measured(10))], "b"],
    [
      "the one with fewer in flight",
      [replica("a", { ...measured(10), inFlight: 2 }), replica("b", measured(20))],
      "b",
    ],
    ["the unmeasured", [replica("a", measured(10)), replica("b")], "b"],
    ["local before faster", [replica("a", measured(1)), replica("b", { ...measured(50), local: true })], "b"],
    ["not the one aside", [replica("a", { asideUntilMs: 1_001 }), replica("b", measured(99))], "b"],
    [
      "not even a local one aside",
      [replica("a", { asideUntilMs: 1_001, local: true }), replica("b", measured(99))],
      "b",
    ],
    ["back after the cool-down", [replica("a", { asideUntilMs: 1_000 }), replica("b", measured(99))], "a"],
    [
      "when all are aside, the longest",
      [replica("a", { asideUntilMs: 3_000 }), replica("b", { asideUntilMs: 2_000 })],
      "b",
    ],
  ])("takes %s", (_, replicas, expected) => {
    expect(selectReplica(replicas, 1_000)?.peerId ?? null).toBe(expected);
  });

  test("an old slow measurement loses its weight", () => {
    const replicas = [replica("slow-once", measured(400, 0)), replica("fast", measured(100, 60_000))];
    expect(selectReplica(replicas, 60_000)?.peerId).toBe("slow-once");
  });

  test("always takes one of the replicas, and one in service if there is any", () => {
    const anyReplica = fc.record({
      peerId: fc.string(),
      local: fc.boolean(),
      inFlight: fc.nat(),
      latency: fc.option(
        fc.record({ latencyMs: fc.double({ min: 0, noNaN: true }), measuredAtMs: fc.nat() }),
      ),
      asideUntilMs: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(anyReplica, { minLength: 1 }), fc.nat(), (replicas, nowMs) => {
        const chosen = selectReplica(replicas, nowMs);
        expect(replicas).toContain(chosen);
        if (replicas.some(({ asideUntilMs }) => asideUntilMs <= nowMs)) {
          expect(chosen!.asideUntilMs).toBeLessThanOrEqual(nowMs);
        }
      }),
    );
  });
});

describe("Router", () => {
  const open = () => {
    const clock = new FakeClock();
    return { clock, router: new Router({ self: "me" }, { clock }) };
  };

  test("prefers this agent, then spreads over the others by what is in flight", async () => {
    const { router } = open();
    expect(router.pick("m@1/0", ["a", "me"])).toBe("me");
    const waiting = Promise.withResolvers<void>();
    const request = router.track("a", "m@1/0", () => waiting.promise);
    expect(router.pick("m@1/0", ["a", "b"])).toBe("b");
    waiting.resolve();
    await request;
    expect(router.pick("m@1/0", ["a", "b"])).toBe("a");
  });

  test("latency is learned a shard", async () => {
    const { router, clock } = open();
    await router.track("a", "m@1/0", () => clock.advance(500));
    expect(router.pick("m@1/0", ["a", "b"])).toBe("b");
    expect(router.pick("m@1/1", ["a", "b"])).toBe("a");
  });

  test("a failed request counts no longer as in flight, and teaches no latency", async () => {
    const { router, clock } = open();
    const failing = router.track("a", "m@1/0", async () => {
      await clock.advance(500);
      throw new Error("gone");
    });
    await expect(failing).rejects.toThrow("gone");
    expect(router.pick("m@1/0", ["a", "b"])).toBe("a");
  });

  test("a peer put aside is back after the cool-down, or with its connection", async () => {
    const { router, clock } = open();
    router.putAside("a");
    expect(router.pick("m@1/0", ["a", "b"])).toBe("b");
    await clock.advance(2_000);
    expect(router.pick("m@1/0", ["a", "b"])).toBe("a");
    router.putAside("a");
    router.takeBack("a");
    expect(router.pick("m@1/0", ["a", "b"])).toBe("a");
  });
});
