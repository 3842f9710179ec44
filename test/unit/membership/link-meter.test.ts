import { expect, test } from "vitest";
import { LinkMeter } from "../../../agent/membership/link-meter.ts";
import { limits } from "../../../protocol/limits.ts";
import { probeLink } from "../../../protocol/messages/link.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";
import { MemoryCluster, memoryPeerId } from "../../simulation/memory-network.ts";

const [self, near, far, coordinator] = [1, 2, 3, 9].map(memoryPeerId) as [string, string, string, string];

/** Answers probes after the time that a link of this latency and speed would take, on a clock of its own. */
function openMeter(links: Record<string, { latencyMs: number; bytesPerMs: number }>) {
  const clock = new FakeClock();
  const cluster = new MemoryCluster(clock);
  const network = cluster.open(self);
  let nowMs = 0;
  const probed: string[] = [];
  for (const peerId of [near, far, coordinator]) {
    cluster.open(peerId).handle(probeLink, async ({ bytes }) => {
      probed.push(peerId);
      const link = links[peerId] ?? { latencyMs: 0, bytesPerMs: 1 };
      nowMs += 2 * link.latencyMs + bytes / link.bytesPerMs;
      return { payload: new Uint8Array(bytes) };
    });
  }
  const meter = new LinkMeter({ network, clock, log: silentLog, nowMs: () => nowMs, except: coordinator });
  meter.start();
  return { meter, clock, cluster, probed, links };
}

async function advance(clock: FakeClock, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    await clock.advance(limits.linkProbeFirstMs);
    await settle();
  }
}

test("measures latency and bandwidth of each member, and leaves the coordinator alone", async () => {
  const { meter, clock, probed } = openMeter({
    [near]: { latencyMs: 1, bytesPerMs: 100_000 },
    [far]: { latencyMs: 40, bytesPerMs: 1_000 },
  });
  await advance(clock, 2);
  const measured = new Map(meter.links().map((link) => [link.peerId, link]));
  expect(measured.get(near)!.latencyMs).toBeCloseTo(1, 2);
  expect(measured.get(far)!.latencyMs).toBeCloseTo(40, 0);
  expect(measured.get(far)!.bytesPerSecond).toBeCloseTo(1e6, -3);
  expect(probed).not.toContain(coordinator);
  meter.close();
});

test("one busy moment does not make a link slow; a link that stays slow is believed", async () => {
  const { meter, clock, links } = openMeter({ [near]: { latencyMs: 1, bytesPerMs: 100_000 } });
  const speed = () => meter.links().find(({ peerId }) => peerId === near)!.bytesPerSecond;
  await advance(clock, 2);
  const before = speed();
  links[near] = { latencyMs: 1, bytesPerMs: 1_000 };
  await advance(clock, 2);
  expect(speed()).toBe(before);
  await clock.advance(20 * limits.linkProbeIntervalMs);
  await settle();
  for (let i = 0; i < 20; i++) {
    await clock.advance(limits.linkProbeIntervalMs);
    await settle();
  }
  expect(speed()).toBeCloseTo(1e6, -3);
  meter.close();
});

test("forgets who is gone and leaves no timer behind", async () => {
  const { meter, clock, cluster } = openMeter({});
  await advance(clock, 2);
  expect(meter.links()).toHaveLength(2);
  cluster.crash(far);
  expect(meter.links().map(({ peerId }) => peerId)).toEqual([near]);
  meter.close();
  expect(clock.pendingTimers).toBe(0);
});
