import { expect, test } from "vitest";
import { Membership, type MembershipModules } from "../../../agent/membership/membership.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

test("an agent that is told to stop while the coordinator refuses to answer waits for nothing", async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const coordinator = memoryPeerId(1);
  const network = {
    connectedPeers: () => [coordinator],
    onConnection: () => {},
    request: async () => {
      stop.abort();
      throw new RingfoldError("REQUEST_TIMEOUT", "no answer");
    },
  };
  const membership = new Membership({
    ...{ network, clock, log: silentLog, hello: () => ({}), onReached: async () => {} },
    credentials: { membership: null, token: "", claims: { coordinator, addresses: [] } },
  } as unknown as MembershipModules);
  await expect(membership.join(stop.signal)).rejects.toMatchObject({ code: "COORDINATOR_UNREACHABLE" });
  expect(clock.pendingTimers).toBe(0);
});

test.each([
  { silentAfterMs: 4_000, joins: true },
  { silentAfterMs: Number.POSITIVE_INFINITY, joins: false },
])("an identity that is in use is tried again until a dead life would be silent: $joins", async (shape) => {
  const clock = new FakeClock();
  const startMs = clock.nowMs();
  const coordinator = memoryPeerId(1);
  const network = {
    connectedPeers: () => [coordinator],
    onConnection: () => {},
    subscribe: () => {},
    publish: async () => {},
    request: async () => {
      if (clock.nowMs() - startMs >= shape.silentAfterMs) return { membership: "certificate" };
      throw new RingfoldError("DUPLICATE_IDENTITY", "runs with this identity already");
    },
  };
  const membership = new Membership({
    ...{ network, clock, log: silentLog, hello: () => ({}), onReached: async () => {} },
    ...{
      onJoined: async () => {},
      measureLoad: () => ({}),
      holdings: () => ({ store: "", revision: 0, recent: [] }),
      links: () => [],
      served: () => [],
    },
    credentials: { membership: null, token: "", claims: { coordinator, addresses: [] } },
  } as unknown as MembershipModules);
  const joined = membership.join(new AbortController().signal).then(
    () => "joined",
    ({ code }: RingfoldError) => code,
  );
  await clock.advance(3_900);
  expect(await Promise.race([joined, Promise.resolve("still trying")])).toBe("still trying");
  await clock.advance(10_000);
  expect(await joined).toBe(shape.joins ? "joined" : "DUPLICATE_IDENTITY");
  membership.close();
  expect(clock.pendingTimers).toBe(0);
});

test("a coordinator that goes away as it takes the agent in is looked for again", async () => {
  const clock = new FakeClock();
  const coordinator = memoryPeerId(1);
  let connected = true;
  let joins = 0;
  const network = {
    connectedPeers: () => (connected ? [coordinator] : []),
    onConnection: () => {},
    subscribe: () => {},
    publish: async () => {},
    connect: async () => {
      connected = true;
      return coordinator;
    },
    request: async () => {
      joins++;
      return { membership: "certificate" };
    },
  };
  const membership = new Membership({
    ...{ network, clock, log: silentLog, hello: () => ({}), onReached: async () => {} },
    ...{
      // The socket closes between the answer and whoever would listen for that.
      onJoined: async () => {
        if (joins === 1) connected = false;
      },
      measureLoad: () => ({}),
      holdings: () => ({ store: "", revision: 0, recent: [] }),
      links: () => [],
      served: () => [],
    },
    credentials: { membership: null, token: "", claims: { coordinator, addresses: ["/memory/1"] } },
  } as unknown as MembershipModules);
  const joined = membership.join(new AbortController().signal);
  await clock.advance(5_000);
  await joined;
  expect({ joins, connected }).toEqual({ joins: 2, connected: true });
  membership.close();
  expect(clock.pendingTimers).toBe(0);
});
