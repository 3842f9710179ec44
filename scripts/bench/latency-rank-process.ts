import pino from "pino";
import { openDataPlane } from "../../agent/network/data-plane/data-plane.ts";
import type { FrameSocket } from "../../agent/network/data-plane/frame-socket.ts";
import { frameKind } from "../../agent/network/data-plane/frame-socket.ts";
import { createTransientIdentity } from "../../agent/network/identity.ts";
import { RingMemory } from "../../agent/ring/memory.ts";
import type { Ring } from "../../agent/ring/ring.ts";
import { linkRing } from "../../agent/training/linking.ts";
import { limits } from "../../protocol/limits.ts";
import type { LinkCost } from "../../protocol/link-model.ts";
import type { GenerationPlan, Rank } from "../../protocol/messages/job.ts";
import { digestOf, fillPattern, findWrongElement } from "./ring-pattern.ts";

/** One rank in a process of its own, led by latency.ts over IPC. It links as a trainer does, by plans. */
export type ToLatencyRank =
  | { readonly kind: "link"; readonly plan: GenerationPlan; readonly bytes: number }
  | {
      readonly kind: "probe";
      readonly to: Rank;
      readonly purpose: Pick<GenerationPlan, "jobId" | "generation">;
    }
  | { readonly kind: "sum"; readonly plan: GenerationPlan; readonly operations: number }
  | { readonly kind: "unlink" }
  | { readonly kind: "close" };
export interface RankReady {
  readonly peerId: string;
  readonly port: number;
}
export interface Summed {
  /** Of each operation; they follow each other without a pause. */
  readonly ms: readonly number[];
  readonly isRight: boolean;
  readonly digest: number;
}

const never = new AbortController().signal;
const identity = await createTransientIdentity();
const plane = await openDataPlane({
  ...identity,
  host: "127.0.0.1",
  transport: "encrypted",
  log: pino({ level: "silent" }),
});
const rings = new Map<string, { readonly ring: Ring; readonly vector: Float32Array }>();
const keyOf = ({ jobId, generation }: GenerationPlan): string => `${jobId}/${generation}`;

// Answers a probe: as many bytes as asked for, in frames.
plane.serve("heal", async (socket) => {
  for (;;) {
    const { a: bytes } = await socket.receive(never);
    send(socket, bytes);
  }
});
const send = (socket: FrameSocket, bytes: number): void => {
  for (let left = bytes; left > 0; left -= limits.segmentBytes)
    socket.send({ ...probeFrame, a: bytes, payload: new Uint8Array(Math.min(left, limits.segmentBytes)) });
};
const probeFrame = { kind: frameKind.state, a: 0, b: 0, c: 0, d: 0 } as const;

process.on("disconnect", () => process.exit(0));
process.on("message", (message: ToLatencyRank) => {
  obey(message).then(
    (answer) => process.send?.(answer),
    (error: Error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.send?.({ peerId: identity.peerId, port: plane.port } satisfies RankReady);

async function obey(message: ToLatencyRank): Promise<unknown> {
  switch (message.kind) {
    case "link":
      await link(message.plan, message.bytes);
      return "linked";
    case "probe":
      return probe(message.to, message.purpose);
    case "sum":
      return sum(message.plan, message.operations);
    case "unlink":
      for (const { ring } of rings.values()) ring.destroy();
      rings.clear();
      return "unlinked";
    case "close":
      await plane.close();
      setImmediate(() => process.disconnect());
      return "closed";
  }
}

async function link(plan: GenerationPlan, bytes: number): Promise<void> {
  const { jobId, generation, ranks } = plan;
  plane.admit({ jobId, generation, peerIds: ranks.map(({ peerId }) => peerId) });
  const memory = new RingMemory({ elementCount: bytes / 4 });
  const ring = await linkRing(plan, { peerId: identity.peerId, plane, memory }, never);
  rings.set(keyOf(plan), { ring, vector: memory.allocate(bytes / 4) });
}

/** As agents measure (agent/membership/link-meter.ts), on a connection of the data plane. */
async function probe(to: Rank, purpose: Pick<GenerationPlan, "jobId" | "generation">): Promise<LinkCost> {
  const socket = await plane.dial(
    to,
    { kind: "heal", jobId: purpose.jobId, generation: purpose.generation },
    never,
  );
  const roundTripMs = async (bytes: number): Promise<number> => {
    const startMs = performance.now();
    socket.send({ ...probeFrame, a: bytes, payload: new Uint8Array(0) });
    for (let got = 0; got < bytes; ) got += (await socket.receive(never)).payload.length;
    return performance.now() - startMs;
  };
  const trips: number[] = [];
  const transfers: number[] = [];
  for (let i = 0; i < 5; i++) trips.push(await roundTripMs(64));
  for (let i = 0; i < 5; i++) transfers.push(await roundTripMs(limits.linkProbeBytes));
  socket.destroy();
  const tripMs = Math.min(...trips);
  const transferMs = Math.max(0.1, Math.min(...transfers) - tripMs);
  return { latencyMs: tripMs / 2, bytesPerSecond: (1_000 * limits.linkProbeBytes) / transferMs };
}

async function sum(plan: GenerationPlan, operations: number): Promise<Summed> {
  const { ring, vector } = rings.get(keyOf(plan))!;
  const { rank } = ring;
  const ms: number[] = [];
  let isRight = true;
  await ring.barrier(never);
  for (let round = 0; round < operations; round++) {
    fillPattern(vector, { rank, round });
    const startMs = performance.now();
    await ring.allReduce(vector, never);
    ms.push(performance.now() - startMs);
    const ranks = plan.ranks.map((each) => each.rank);
    isRight &&= findWrongElement(vector, { ranks, round, wire: "f32" }) === -1;
  }
  return { ms, isRight, digest: digestOf(vector) };
}
