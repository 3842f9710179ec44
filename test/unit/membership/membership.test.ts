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
