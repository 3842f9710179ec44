import { afterEach, describe, expect, test } from "vitest";
import { RingMemory } from "../../agent/ring/memory.ts";
import type { Ring } from "../../agent/ring/ring.ts";
import { linkRing } from "../../agent/training/linking.ts";
import { algorithmSchema } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { windowMax } from "../../protocol/segment-flow.ts";
import { admitAll, type DataPeer, openDataPeers } from "../fixtures/data-planes.ts";
import { examplePlan } from "../fixtures/messages.ts";

const never = new AbortController().signal;
const opened: DataPeer[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ plane }) => plane.close()));
});

/** Rings by a plan over real sockets, with a vector of `elementCount` in the memory of each. */
async function linked(
  way: Pick<GenerationPlan, "algorithm" | "window">,
  worldSize: number,
  elementCount: number,
) {
  const peers = await openDataPeers(worldSize, "encrypted");
  opened.push(...peers);
  const plan: GenerationPlan = {
    ...examplePlan,
    ...way,
    ranks: peers.map(({ peerId, plane: { port } }, rank) => ({
      ...{ rank, peerId, port, statePort: port, host: "127.0.0.1", heals: false },
    })),
  };
  admitAll(peers, { kind: "ring", jobId: plan.jobId, generation: plan.generation });
  return Promise.all(
    peers.map(async ({ peerId, plane }, rank): Promise<{ ring: Ring; vector: Float32Array }> => {
      const memory = new RingMemory({ elementCount });
      const ring = await linkRing(plan, { peerId, plane, memory }, AbortSignal.timeout(5_000));
      return { ring, vector: memory.allocate(elementCount).fill(rank + 1) };
    }),
  );
}

describe.each(algorithmSchema.options)("%s", (algorithm) => {
  test.each([{ worldSize: 2 }, { worldSize: 3, window: windowMax(limits.segmentBytes) }, { worldSize: 5 }])(
    "ranks link by their plan and sum more than the sockets hold: %j",
    async ({ worldSize, ...flow }) => {
      const ranks = await linked({ algorithm, ...flow }, worldSize, 500_003);
      const each = (worldSize * (worldSize + 1)) / 2;
      for (let operation = 0; operation < 2; operation++) {
        await Promise.all(ranks.map(({ ring, vector }) => ring.allReduce(vector, never)));
        const sum = each * worldSize ** operation;
        for (const { vector } of ranks) expect(vector.every((value) => value === sum)).toBe(true);
      }
      for (const { ring } of ranks) expect(ring.sentBytes).toBeGreaterThan(0);
    },
  );

  test("a rank that closes ends the operation of all others", async () => {
    const ranks = await linked({ algorithm }, 5, 1_000);
    const waiting = ranks.slice(1).map(({ ring, vector }) => ring.allReduce(vector, never));
    ranks[0]!.ring.destroy();
    for (const outcome of await Promise.allSettled(waiting))
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    for (const { ring } of ranks) expect(() => ring.throwIfBroken()).toThrow(/closed/);
  });
});
