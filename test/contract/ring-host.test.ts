import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { generateCertificate } from "@libp2p/tls/utils";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openDataPlane } from "../../agent/network/data-plane/data-plane.ts";
import { RingMemory } from "../../agent/ring/memory.ts";
import type { RingPort } from "../../agent/ring/port.ts";
import { digestState } from "../../agent/training/healing/digest-state.ts";
import { LocalRingHost } from "../../agent/training/ring-host/local-ring-host.ts";
import { admissionOf, type RingHost } from "../../agent/training/ring-host/ring-host.ts";
import { openRingThread } from "../../agent/training/ring-host/ring-thread.ts";
import type { RingThreadSetup } from "../../agent/training/ring-host/ring-thread-messages.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { wireSchema } from "../../protocol/job-spec.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { systemClock } from "../../protocol/ports.ts";
import { silentLog } from "../fixtures/network.ts";

const never = new AbortController().signal;
const bytesOf = (array: Float32Array): Buffer =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const errorOf = (work: () => void): unknown => {
  try {
    work();
    return undefined;
  } catch (cause) {
    return cause;
  }
};
const soon = () => AbortSignal.timeout(10_000);
const elementCount = 300_001;
const tailLength = 3;

type OpenHost = (plane: RingThreadSetup["plane"]) => Promise<RingHost>;
const implementations: Readonly<Record<string, OpenHost>> = {
  "in the thread of the caller": async (plane) =>
    new LocalRingHost({
      peerId: plane.peerId,
      plane: await openDataPlane({ ...plane, log: silentLog }),
      digestState,
      clock: systemClock,
      nowMs: () => performance.now(),
    }),
  "in a thread of its own": (plane) =>
    openRingThread({ plane, logLevel: "silent" }, { onDeath: (error) => deaths.push(error) }),
};
const deaths: RingfoldError[] = [];

interface Member {
  readonly peerId: string;
  readonly host: RingHost;
  readonly memory: RingMemory;
  readonly vector: Float32Array;
  readonly residual: Float32Array;
}

const opened: RingHost[] = [];
let generation = 0;
afterEach(() => expect(deaths.splice(0)).toEqual([]));
afterAll(() => Promise.all(opened.map((host) => host.close())));

async function openMembers(open: OpenHost, count: number): Promise<Member[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const privateKey = await generateKeyPair("Ed25519");
      const certificate = await generateCertificate(privateKey);
      const peerId = peerIdFromPrivateKey(privateKey).toString();
      const host = await open({ peerId, certificate, host: "127.0.0.1", transport: "encrypted" });
      opened.push(host);
      const memory = new RingMemory({ elementCount: 2 * elementCount });
      const [vector, residual] = [memory.allocate(elementCount), memory.allocate(elementCount)];
      return { peerId, host, memory, vector, residual };
    }),
  );
}

const planOf = (
  members: readonly Member[],
  algorithm: GenerationPlan["algorithm"] = "ring",
): GenerationPlan => ({
  ...{ jobId: "job-1", generation, transport: "encrypted", predictedCommunicationMs: null, reason: "" },
  algorithm,
  ranks: members.map(({ peerId, host: { port } }, rank) => ({
    ...{ rank, peerId, host: "127.0.0.1", port, statePort: port, heals: rank > 1 },
  })),
  start: { step: 0, hash: "0".repeat(64) },
  source: members[0]!.peerId,
});

/** A new generation of these members. */
function linkAll(members: readonly Member[], algorithm?: GenerationPlan["algorithm"]): Promise<RingPort[]> {
  generation++;
  return Promise.all(
    members.map(({ host, memory }) => host.link(planOf(members, algorithm), memory, soon())),
  );
}

describe.each(Object.entries(implementations))("a ring %s", (_, open) => {
  let all: readonly Member[] = [];
  const some = (count: number) => all.slice(0, count);
  beforeAll(async () => {
    all = await openMembers(open, 3);
  });

  test.each(wireSchema.options)("sums vectors where they lie, with error feedback: %s", async (wire) => {
    const members = some(3);
    const rings = await linkAll(members);
    for (let operation = 0; operation < 2; operation++) {
      for (const [rank, { vector }] of members.entries())
        for (let i = 0; i < elementCount; i++) vector[i] = (rank + 1) * (1 + (i % 7) / 7);
      await Promise.all(
        members.map(({ vector, residual }, rank) =>
          rings[rank]!.allReduce(vector, never, { wire, exactTail: tailLength, residual }),
        ),
      );
      for (const { vector } of members) {
        expect(vector.every((value, i) => Math.abs(value - 6 * (1 + (i % 7) / 7)) < 0.2)).toBe(true);
        expect(vector.at(-1)).toBeCloseTo(6 * (1 + ((elementCount - 1) % 7) / 7), 5);
        expect(Buffer.compare(bytesOf(vector), bytesOf(members[0]!.vector))).toBe(0);
      }
    }
    const hasLost = members.some(({ residual }) => residual.some((value) => value !== 0));
    expect(hasLost).toBe(wire !== "f32");
    expect(rings[0]!.sentBytes).toBeGreaterThan(elementCount);
    expect(rings[0]!.busyMs).toBeGreaterThan(0);
    expect(rings[0]!.isWornOut).toBe(false);
  });

  test("sums in pairs, where the plan says so, and names who has left", async () => {
    const members = await openMembers(open, 2);
    const rings = await linkAll(members, "doubling");
    for (const [rank, { vector }] of members.entries()) vector.fill(rank + 1);
    await Promise.all(members.map(({ vector }, rank) => rings[rank]!.allReduce(vector, never)));
    for (const { vector } of members) expect(vector.every((value) => value === 3)).toBe(true);
    await members[0]!.host.close();
    await expect
      .poll(() => errorOf(() => rings[1]!.throwIfBroken()))
      .toMatchObject({ code: "RING_BROKEN", data: { peer: members[0]!.peerId } });
  });

  test("sums vectors from elsewhere, and gathers payloads", async () => {
    const members = some(2);
    const rings = await linkAll(members);
    const buffers = members.map((_member, rank) => new Float32Array(1_000).fill(rank + 1));
    await Promise.all(rings.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
    for (const buffer of buffers) expect(buffer.every((value) => value === 3)).toBe(true);
    const residuals = members.map(() => new Float32Array(1_000).fill(0.5));
    await Promise.all(
      rings.map((ring, rank) =>
        ring.allReduce(buffers[rank]!, never, { wire: "bf16", residual: residuals[rank]! }),
      ),
    );
    for (const buffer of buffers) expect(buffer.every((value) => value === 7)).toBe(true);
    const gathered = await Promise.all(
      rings.map((ring, rank) =>
        ring.allGather(new Uint8Array(rank + 1).fill(rank), never, { payloadBytesMax: 10 }),
      ),
    );
    for (const payloads of gathered) expect(payloads.map((payload) => [...payload])).toEqual([[0], [1, 1]]);
  });

  test("takes operations one after the other without waiting, in their order", async () => {
    const members = some(3);
    const rings = await linkAll(members);
    for (const [rank, { vector }] of members.entries()) vector.fill(rank + 1);
    const bounds = [0, 1, 100_000, elementCount];
    await Promise.all(
      members.flatMap(({ vector }, rank) =>
        [2, 1, 0].map((bucket) =>
          rings[rank]!.allReduce(vector.subarray(bounds[bucket], bounds[bucket + 1]), never),
        ),
      ),
    );
    for (const { vector } of members) expect(vector.every((value) => value === 6)).toBe(true);
  });

  test("ends for all when one of them cancels, and those operations with it that wait", async () => {
    const members = some(3);
    const rings = await linkAll(members);
    const cancel = new AbortController();
    const operations = members.flatMap(({ vector }, rank) =>
      // Rank 2 never takes part, so nobody comes to an end.
      rank === 2 ? [] : [1, 2].map(() => rings[rank]!.allReduce(vector, rank === 0 ? cancel.signal : never)),
    );
    cancel.abort(new RingfoldError("CANCELLED", "not wanted any more"));
    const outcomes = await Promise.allSettled(operations);
    const codes = outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason.code);
    expect(codes).toEqual(["CANCELLED", "CANCELLED", "RING_BROKEN", "RING_BROKEN"]);
  });

  test("tells who works between two operations that a neighbour is lost, and passes it on", async () => {
    const members = await openMembers(open, 3);
    const rings = await linkAll(members);
    await Promise.all(rings.map((ring) => ring.barrier(never)));
    for (const ring of rings) ring.throwIfBroken();
    await members[0]!.host.close();
    for (const ring of [rings[1]!, rings[2]!]) {
      await expect.poll(() => errorOf(() => ring.throwIfBroken())).toMatchObject({ code: "RING_BROKEN" });
    }
    await expect(rings[1]!.barrier(never)).rejects.toMatchObject({ code: "RING_BROKEN" });
  });

  test("gives its memory to the next one", async () => {
    const members = some(2);
    for (let round = 1; round <= 3; round++) {
      const rings = await linkAll(members);
      for (const { vector } of members) vector.fill(round);
      await Promise.all(members.map(({ vector }, rank) => rings[rank]!.allReduce(vector, never)));
      for (const { vector } of members) expect(vector.every((value) => value === 2 * round)).toBe(true);
      for (const ring of rings) ring.destroy();
      await expect(rings[0]!.barrier(never)).rejects.toMatchObject({ code: "RING_BROKEN" });
    }
  });

  test("is not linked with whoever never comes", async () => {
    const members = some(2);
    generation++;
    const deadline = new AbortController();
    const linking = members[0]!.host.link(planOf(members), members[0]!.memory, deadline.signal);
    deadline.abort(new RingfoldError("REQUEST_TIMEOUT", "too late"));
    await expect(linking).rejects.toMatchObject({ code: "REQUEST_TIMEOUT" });
  });

  test("brings states to ranks that heal", async () => {
    const members = some(3);
    const state = Uint8Array.from({ length: 3_000_000 }, (_value, i) => i % 251);
    generation++;
    const plan = planOf(members);
    for (const { host } of members.slice(0, 2)) host.offer(admissionOf(plan), state.slice());
    await Promise.all(members.map(({ host, memory }) => host.link(plan, memory, soon())));
    expect(Buffer.compare(await members[2]!.host.fetchStart(plan, soon()), state)).toBe(0);
    for (const { host } of members.slice(0, 2)) host.withdraw();
    await expect(members[2]!.host.fetchStart(plan, soon())).rejects.toMatchObject({ code: "RING_BROKEN" });
  });
});

describe("the thread of a ring", () => {
  const open = implementations["in a thread of its own"]!;
  const nextWorker = (): Worker[] => {
    const workers: Worker[] = [];
    const keep = (worker: Worker) => void workers.push(worker);
    process.on("worker", keep);
    onTestFinished(() => void process.off("worker", keep));
    return workers;
  };

  test("that dies fails every operation by name, and tells its owner once", async () => {
    const workers = nextWorker();
    const members = await openMembers(open, 2);
    const rings = await linkAll(members);
    const waiting = Promise.allSettled(
      rings.map((ring, rank) => ring.allReduce(members[rank]!.vector, never)),
    );
    await Promise.all(workers.map((worker) => worker.terminate()));
    for (const outcome of await waiting)
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "TRAINER_DIED" } });
    expect(deaths.splice(0)).toMatchObject([{ code: "TRAINER_DIED" }, { code: "TRAINER_DIED" }]);
  });

  test("that cannot listen is no thread", async () => {
    const plane = {
      ...{ peerId: "nobody", certificate: { cert: "none", key: "none" } },
      ...({ host: "127.0.0.1", transport: "encrypted" } as const),
    };
    await expect(open(plane)).rejects.toBeInstanceOf(RingfoldError);
  });

  test("leaves nothing behind when it is closed", async () => {
    const workers = nextWorker();
    const members = await openMembers(open, 2);
    const rings = await linkAll(members);
    const waiting = expect(rings[0]!.barrier(never)).rejects.toMatchObject({ code: "CANCELLED" });
    const ends = workers.map((worker) => once(worker, "exit"));
    await Promise.all(members.map(({ host }) => host.close()));
    await Promise.all([waiting, ...ends]);
    expect(workers.every(({ threadId }) => threadId === -1)).toBe(true);
    await expect(rings[0]!.barrier(never)).rejects.toMatchObject({ code: "CANCELLED" });
  });
});
