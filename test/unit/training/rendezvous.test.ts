import { describe, expect, test } from "vitest";
import { RingMemory } from "../../../agent/ring/memory.ts";
import { Ring } from "../../../agent/ring/ring.ts";
import { joinGeneration, type Rendezvous } from "../../../agent/training/rendezvous.ts";
import { OpenRings } from "../../../agent/training/ring-host/open-rings.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import { examplePlan } from "../../fixtures/messages.ts";
import { noCheckpoints } from "../../fixtures/no-checkpoints.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { memoryRing } from "../../simulation/memory-links.ts";

const never = new AbortController().signal;
const memory = new RingMemory({ elementCount: 64 });

function ringOfTwo() {
  const links = memoryRing(2);
  return { ring: new Ring({ rank: 0, worldSize: 2, links: links[0]! }), links: links[0]! };
}

/** A ring of this thread whose owner is told of its end, as one in a thread of its own has to be. */
function told(ring: Ring) {
  let ends = 0;
  const port = Object.create(ring, {
    barrier: { value: (signal: AbortSignal) => ring.barrier(signal) },
    destroy: {
      value: () => {
        ends++;
        ring.destroy();
      },
    },
  }) as Ring;
  return { port, ends: () => ends };
}

describe("a rendezvous that fails after its links stand ends the ring for whoever has them", () => {
  const [self] = examplePlan.ranks;
  const rendezvous = (ring: Ring, changes: Partial<Rendezvous["host"]> = {}): Rendezvous => ({
    ...{ peerId: self!.peerId, clock: new FakeClock(), nowMs: () => 0, onReady: () => {} },
    checkpoints: noCheckpoints,
    stateSource: { offer: () => {}, withdraw: () => {} },
    trainer: {
      ...{ memory, point: () => examplePlan.start },
      ...{ encodeState: async () => new Uint8Array(1), restoreState: async () => {} },
    },
    host: {
      ...{ port: 1, link: async () => ring, offer: () => {}, withdraw: () => {}, close: async () => {} },
      fetchStart: async () => new Uint8Array(1),
      ...changes,
    },
  });

  test("when the barrier breaks", async () => {
    const { ring, links } = ringOfTwo();
    const { port, ends } = told(ring);
    const joining = joinGeneration({ ...examplePlan, ranks: [self!] }, rendezvous(port), never);
    const refused = expect(joining).rejects.toMatchObject({ code: "RING_BROKEN" });
    links.upstream.destroy();
    await refused;
    expect(ends()).toBe(1);
  });

  test("when the state cannot be copied before the first step", async () => {
    const { port, ends } = told(new Ring({ rank: 0, worldSize: 1 }));
    const plan: GenerationPlan = { ...examplePlan, ranks: [{ ...self!, heals: true }], healsFirst: true };
    const fetchStart = async () => {
      throw new RingfoldError("PEER_UNREACHABLE", "nobody gives it");
    };
    const joining = joinGeneration(plan, rendezvous(port, { fetchStart }), never);
    await expect(joining).rejects.toMatchObject({ code: "PEER_UNREACHABLE" });
    expect(ends()).toBe(1);
  });
});

describe("the rings of a ring thread", () => {
  test("one whose operation has failed is not kept", async () => {
    const rings = new OpenRings();
    const { ring, links } = ringOfTwo();
    rings.add(1, { ring, memory });
    const failing = rings.operate(1, (open) => open.ring.allReduce(new Float32Array(8), never));
    const behind = rings.operate(1, (open) => open.ring.allReduce(new Float32Array(8), never));
    const refused = [failing, behind].map((outcome) =>
      expect(outcome).rejects.toMatchObject({ code: "RING_BROKEN" }),
    );
    links.upstream.destroy();
    await Promise.all(refused);
    expect(rings.count).toBe(0);
    expect(links.downstream.closed.aborted).toBe(true);
    await expect(rings.operate(1, async () => {})).rejects.toMatchObject({ code: "RING_BROKEN" });
  });

  test("one that has summed is kept until it is ended", async () => {
    const rings = new OpenRings();
    rings.add(7, { ring: new Ring({ rank: 0, worldSize: 1 }), memory });
    expect(await rings.operate(7, async ({ ring }) => ring.busyMs)).toBe(0);
    expect(rings.count).toBe(1);
    rings.end(7);
    rings.end(7);
    expect(rings.count).toBe(0);
  });
});
