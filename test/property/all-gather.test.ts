import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Segment, UpstreamLink } from "../../agent/ring/link.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { memoryRing } from "../simulation/memory-links.ts";

const never = new AbortController().signal;
const payloadBytesMax = 400;

const payloadOf = (rank: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + rank * 17) % 256);

const rings = (worldSize: number, segmentBytes: number): Ring[] =>
  worldSize === 1
    ? [new Ring({ rank: 0, worldSize })]
    : memoryRing(worldSize).map((links, rank) => new Ring({ rank, worldSize, links, segmentBytes }));

const gatherAll = (members: readonly Ring[], payloads: readonly Uint8Array[]) =>
  Promise.all(members.map((ring, rank) => ring.allGather(payloads[rank]!, never, { payloadBytesMax })));
const settleAll = (members: readonly Ring[], payloads: readonly Uint8Array[]) =>
  Promise.allSettled(
    members.map((ring, rank) => ring.allGather(payloads[rank]!, never, { payloadBytesMax })),
  );

test("every rank gets what each contributed, for any world, lengths and segment, operation after operation", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 16 }),
      fc.array(fc.array(fc.nat(payloadBytesMax), { minLength: 16, maxLength: 16 }), {
        minLength: 1,
        maxLength: 3,
      }),
      fc.integer({ min: 64, max: 200 }),
      async (worldSize, operations, segmentBytes) => {
        const members = rings(worldSize, segmentBytes);
        for (const lengths of operations) {
          const payloads = members.map((_, rank) => payloadOf(rank, lengths[rank]!));
          for (const gathered of await gatherAll(members, payloads)) expect(gathered).toEqual(payloads);
          const sums = members.map(() => Float32Array.of(1, 2));
          await Promise.all(members.map((ring, rank) => ring.allReduce(sums[rank]!, never)));
          expect(sums[0]).toEqual(Float32Array.of(worldSize, 2 * worldSize));
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("each rank sends what the others contribute but its neighbour", async () => {
  const members = rings(3, 1_024);
  await gatherAll(
    members,
    [0, 64, 128].map((length, rank) => payloadOf(rank, length)),
  );
  // Two frames each, with a header of 64 bytes: its own payload and that of the rank before it.
  expect(members.map(({ sentBytes }) => sentBytes)).toEqual([128 + 128, 128 + 64, 128 + 192]);
  expect(members.map(({ receivedBytes }) => receivedBytes)).toEqual([128 + 192, 128 + 128, 128 + 64]);
});

describe("a failure", () => {
  test("of one rank in the middle ends the operation of every other", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 8 }),
        fc.nat(7),
        fc.integer({ min: 0, max: 12 }),
        async (worldSize, victim, segmentsTaken) => {
          const dying = victim % worldSize;
          const members = memoryRing(worldSize).map((links, rank) => {
            const upstream = rank === dying ? dyingLink(links.upstream, segmentsTaken) : links.upstream;
            return new Ring({ rank, worldSize, links: { ...links, upstream }, segmentBytes: 64 });
          });
          const outcomes = await settleAll(
            members,
            members.map((_, rank) => payloadOf(rank, payloadBytesMax)),
          );
          const allSegments = (worldSize - 1) * Math.ceil(payloadBytesMax / 64);
          expect(outcomes[dying]!.status).toBe(segmentsTaken < allSegments ? "rejected" : "fulfilled");
          // Who had all before the news came has finished; nobody waits for ever.
          for (const outcome of outcomes)
            if (outcome.status === "fulfilled") expect(outcome.value).toHaveLength(worldSize);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("an aborted operation ends at once", async () => {
    const [ring] = rings(2, 64);
    const controller = new AbortController();
    const outcome = ring!.allGather(payloadOf(0, 100), controller.signal, { payloadBytesMax });
    controller.abort();
    await expect(outcome).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("a rank that sums while others gather is refused", async () => {
    const [first, second] = rings(2, 64);
    const outcomes = await Promise.allSettled([
      first!.allGather(payloadOf(0, 100), never, { payloadBytesMax }),
      second!.allReduce(new Float32Array(100), never),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  });

  test("a payload that is longer than agreed is refused before it is kept", async () => {
    const [first, second] = rings(2, 64);
    const [outcome] = await Promise.allSettled([
      first!.allGather(payloadOf(0, 8), never, { payloadBytesMax: 100 }),
      second!.allGather(payloadOf(1, 101), never, { payloadBytesMax }),
    ]);
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "MESSAGE_INVALID" } });
  });

  const damage: [string, (segment: Segment) => Segment][] = [
    ["operation", (segment) => ({ ...segment, operation: segment.operation + 1 })],
    ["stage", (segment) => ({ ...segment, stage: segment.stage + 2 })],
    ["stage of its own payload", (segment) => ({ ...segment, stage: 65_535 })],
    ["segment", (segment) => ({ ...segment, segmentIndex: segment.segmentIndex + 1 })],
    ["length of the whole", (segment) => ({ ...segment, elementCount: segment.elementCount - 1 })],
    ["wire", (segment) => ({ ...segment, wireCode: 0 })],
    ["bytes", (segment) => ({ ...segment, payload: segment.payload.slice(1) })],
  ];
  test.each(damage)("a segment with another %s is refused", async (_what, change) => {
    const worldSize = 3;
    const members = memoryRing(worldSize).map((links, rank) => {
      const upstream = rank === 1 ? changedLink(links.upstream, change) : links.upstream;
      return new Ring({ rank, worldSize, links: { ...links, upstream }, segmentBytes: 64 });
    });
    const outcomes = await settleAll(
      members,
      members.map((_, rank) => payloadOf(rank, 300)),
    );
    expect(outcomes[1]).toMatchObject({ status: "rejected", reason: { code: "MESSAGE_INVALID" } });
  });
});

/** Changes the third segment that comes. */
function changedLink(link: UpstreamLink, change: (segment: Segment) => Segment): UpstreamLink {
  let taken = 0;
  return {
    ...link,
    receive: async (signal) => {
      const segment = await link.receive(signal);
      return ++taken === 3 ? change(segment) : segment;
    },
  };
}

function dyingLink(link: UpstreamLink, segmentsTaken: number): UpstreamLink {
  let taken = 0;
  return {
    ...link,
    receive: async (signal) => {
      if (taken++ === segmentsTaken) throw new Error("the rank dies");
      return link.receive(signal);
    },
  };
}
