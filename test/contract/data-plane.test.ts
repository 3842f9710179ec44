import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { DataSocket } from "../../agent/network/data-plane/data-socket.ts";
import { type Frame, type FrameSocket, frameKind } from "../../agent/network/data-plane/frame-socket.ts";
import { downstreamLink, upstreamLink } from "../../agent/network/data-plane/ring-links.ts";
import { RingMemory } from "../../agent/ring/memory.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { wireSchema } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import { admitAll, connectRing, type DataPeer, openDataPeers } from "../fixtures/data-planes.ts";
import { FakeClock } from "../simulation/fake-clock.ts";

const never = new AbortController().signal;
const soon = () => AbortSignal.timeout(5_000);
const purpose = { kind: "ring", jobId: "job-1", generation: 1 } as const;

const bytesOf = (array: Float32Array): Buffer =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength);

const opened: DataPeer[] = [];
const open = async (...parameters: Parameters<typeof openDataPeers>): Promise<DataPeer[]> => {
  const peers = await openDataPeers(...parameters);
  opened.push(...peers);
  return peers;
};
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ plane }) => plane.close()));
});

describe.each(["encrypted", "plaintext"] as const)("%s", (transport) => {
  test("three ranks sum large buffers over real sockets", async () => {
    const rings = await connectRing(await open(3, transport), purpose);
    for (let operation = 0; operation < 3; operation++) {
      const buffers = rings.map((_, rank) => new Float32Array(300_001).fill(rank + 1));
      await Promise.all(rings.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
      for (const buffer of buffers) expect(buffer.every((value) => value === 6)).toBe(true);
    }
  });

  test("three ranks gather payloads of their own lengths, and the bytes are counted", async () => {
    const rings = await connectRing(await open(3, transport), purpose);
    const payloads = [0, 1, 1_000_003].map((length, rank) => new Uint8Array(length).fill(rank + 1));
    const before = rings.map(({ sentBytes }) => sentBytes);
    const gathered = await Promise.all(
      rings.map((ring, rank) => ring.allGather(payloads[rank]!, never, { payloadBytesMax: 1_000_003 })),
    );
    for (const each of gathered)
      for (const [rank, payload] of each.entries()) expect(Buffer.compare(payload, payloads[rank]!)).toBe(0);
    const sent = rings.map((ring, rank) => ring.sentBytes - before[rank]!);
    expect(sent[0]).toBeGreaterThan(1_000_003);
    expect(sent[1]).toBe(64 + 128); // nothing of rank 0, one byte of its own
    expect(rings.map(({ receivedBytes }, rank) => receivedBytes - before[(rank + 2) % 3]!)).toEqual(
      [2, 0, 1].map((upstream) => sent[upstream]),
    );
  });

  test.each(wireSchema.options)(
    "%s: ranks with vectors in the ring's memory end with the same bytes",
    async (wire) => {
      const elementCount = 400_003;
      const [exactTail, worldSize] = [3, 3];
      const peers = await open(worldSize, transport);
      const memories = peers.map(() => new RingMemory({ elementCount: 2 * elementCount }));
      const rings = await connectRing(peers, purpose, memories);
      const ranks = memories.map((memory, rank) => ({
        vector: memory.allocate(elementCount).fill(rank + 1),
        residual: memory.allocate(elementCount - exactTail),
      }));
      const options = { wire, exactTail };
      await Promise.all(
        rings.map((ring, r) =>
          ring.allReduce(ranks[r]!.vector, never, { ...options, residual: ranks[r]!.residual }),
        ),
      );
      for (const { vector } of ranks) {
        expect(vector.every((value) => Math.abs(value - 6) < 0.05)).toBe(true);
        expect([...vector.subarray(-exactTail)]).toEqual([6, 6, 6]);
        expect(Buffer.compare(bytesOf(vector), bytesOf(ranks[0]!.vector))).toBe(0);
      }
    },
  );

  test("a rank that closes breaks the ring for all, both ways round", async () => {
    const peers = await open(4, transport);
    const rings = await connectRing(peers, purpose);
    const outcomes = rings.slice(1).map((ring) => ring.allReduce(new Float32Array(500_000), never));
    rings[0]!.destroy();
    for (const outcome of await Promise.allSettled(outcomes)) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    }
  });
});

test("the peer that answers must be the one that was meant", async () => {
  const [first, second, third] = await open(3, "encrypted");
  const wrong = { peerId: third!.peerId, host: "127.0.0.1", port: second!.plane.port };
  await expect(first!.plane.dial(wrong, purpose, soon())).rejects.toMatchObject({ code: "PEER_IDENTITY" });
});

test("a dial for another generation does not answer an accept", async () => {
  const [first, second] = await open(2, "encrypted");
  const deadline = new AbortController();
  const accepted = first!.plane.accept(second!.peerId, purpose, deadline.signal);
  const dialled = second!.plane.dial(
    { peerId: first!.peerId, host: "127.0.0.1", port: first!.plane.port },
    { ...purpose, generation: 2 },
    deadline.signal,
  );
  deadline.abort();
  await expect(accepted).rejects.toMatchObject({ code: "REQUEST_TIMEOUT" });
  await expect(dialled).rejects.toMatchObject({ code: "REQUEST_TIMEOUT" });
});

test("a stranger without a certificate, and random bytes, are cut off; the ring still forms", async () => {
  const peers = await open(2, "encrypted");
  const port = peers[0]!.plane.port;
  const stranger = tls.connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ["ringfold-data/3"],
  });
  stranger.on("error", () => {});
  stranger.resume(); // what it is told is of no interest, only that it is cut off
  stranger.write("let me in");
  const noise = net.connect({ host: "127.0.0.1", port });
  noise.on("error", () => {});
  noise.write(Buffer.from(Array.from({ length: 2_000 }, (_, i) => (i * 7_919) % 256)));
  await Promise.all([once(stranger, "close"), once(noise, "close")]);
  const rings = await connectRing(peers, purpose);
  const buffers = rings.map(() => new Float32Array(1_000).fill(1));
  await Promise.all(rings.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
  expect(buffers[0]![999]).toBe(2);
});

describe("a neighbour that does not play by the rules", () => {
  /** A real ring of two whose other rank is ours to play: its two sockets. */
  async function ringWithStranger(): Promise<{ ring: Ring; up: FrameSocket; down: FrameSocket }> {
    const [first, second] = (await open(2, "plaintext")) as [DataPeer, DataPeer];
    admitAll([first, second], purpose);
    const dial = (from: DataPeer, to: DataPeer) =>
      from.plane.dial({ peerId: to.peerId, host: "127.0.0.1", port: to.plane.port }, purpose, soon());
    const [dialled, accepted, up, down] = await Promise.all([
      dial(first, second),
      first.plane.accept(second.peerId, purpose, soon()),
      dial(second, first),
      second.plane.accept(first.peerId, purpose, soon()),
    ]);
    const links = { upstream: upstreamLink(dialled), downstream: downstreamLink(accepted) };
    return { ring: new Ring({ rank: 0, worldSize: 2, links }), up, down };
  }
  /** What rank 1 of two sends first for 10 elements of f32: its own chunk. */
  const right = (changes: Partial<Frame> = {}): Frame => ({
    ...{ kind: frameKind.segment, a: 0, b: 0, c: 0, d: 10 },
    payload: new Uint8Array(20),
    ...changes,
  });
  const wireCode = (code: number): number => code << 16;

  test("the frame that the others depart from is taken", async () => {
    const { ring, up, down } = await ringWithStranger();
    const done = ring.allReduce(new Float32Array(10).fill(1), never);
    down.send(right());
    down.send(right({ b: 1, payload: (await up.receive(soon())).payload }));
    await done;
  });

  test.each([
    ["another operation", right({ a: 1 })],
    ["a stage that is not", right({ b: 2 })],
    ["a stage of its own choice", right({ b: 65_535 })],
    ["a segment out of turn", right({ c: 1 })],
    ["another length of the operation", right({ d: 11 })],
    ["another wire", right({ b: wireCode(1) })],
    ["a wire that is not", right({ b: wireCode(9) })],
    ["the bytes of another wire", right({ payload: new Uint8Array(10) })],
    ["a payload too short", right({ payload: new Uint8Array(19) })],
    ["a payload too long", right({ payload: new Uint8Array(24) })],
    ["no payload", right({ payload: new Uint8Array(0) })],
    ["a hello in the middle", right({ kind: frameKind.hello })],
    ["a frame of no kind", right({ kind: 0xffff_ffff })],
  ])("%s is refused", async (_what, frame) => {
    const { ring, down } = await ringWithStranger();
    const outcome = ring.allReduce(new Float32Array(10), never);
    down.send(frame);
    await expect(outcome).rejects.toMatchObject({ code: "MESSAGE_INVALID" });
  });

  test("a segment that comes twice is refused", async () => {
    const { ring, down } = await ringWithStranger();
    const outcome = ring.allReduce(new Float32Array(10), never);
    down.send(right());
    down.send(right());
    await expect(outcome).rejects.toMatchObject({ code: "MESSAGE_INVALID" });
  });
});

describe("bytes on a socket", () => {
  /** A receiving DataSocket on a fake clock, and the bare socket at the other end. */
  async function receiver(): Promise<{ data: DataSocket; bare: net.Socket; clock: FakeClock }> {
    const server = net.createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const bare = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
    const [socket] = (await once(server, "connection")) as [net.Socket];
    server.close();
    bare.on("error", () => {});
    const clock = new FakeClock();
    return { data: new DataSocket(socket, { peerId: "slow", clock }), bare, clock };
  }
  const header = (payloadBytes: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(frameKind.segment, 0);
    bytes.writeUInt32LE(payloadBytes, 20);
    return bytes;
  };

  test("a byte now and then is a stall: the time of a hop is for a whole frame", async () => {
    const { data, bare, clock } = await receiver();
    const outcome = data.receive(never);
    const refused = expect(outcome).rejects.toMatchObject({ code: "HOP_TIMEOUT" });
    for (let sent = 0; sent < limits.hopTimeoutMs / 1_000; sent++) {
      bare.write(header(100).subarray(sent, sent + 1));
      await clock.advance(1_000);
    }
    await refused;
    expect(clock.pendingTimers).toBe(0);
    data.destroy();
    bare.destroy();
  });

  test("a frame that came in time starts the time anew", async () => {
    const { data, bare, clock } = await receiver();
    let taken = 0;
    let outcome = "waiting";
    const ended = data
      .receiveEach(() => {
        taken++;
        return true;
      }, never)
      .catch((error: { code: string }) => {
        outcome = error.code;
      });
    for (let round = 1; round <= 3; round++) {
      await clock.advance(limits.hopTimeoutMs * 0.7);
      bare.write(header(0));
      while (taken < round) await clock.advance(0);
    }
    expect(outcome).toBe("waiting");
    await clock.advance(limits.hopTimeoutMs * 1.25);
    await ended;
    expect(outcome).toBe("HOP_TIMEOUT");
    data.destroy();
    bare.destroy();
  });

  test("a slow peer may take its time as long as it takes a frame in that of a hop; one that takes less is named", async () => {
    const { data, bare, clock } = await receiver();
    const payload = new Uint8Array(limits.segmentBytesPlain);
    // More than the buffers of both sockets hold.
    for (let i = 0; i < 200; i++) data.send({ kind: frameKind.state, a: i, b: 0, c: 0, d: 0, payload });
    let outcome = "waiting";
    const ended = data.drained(never).then(
      () => {
        outcome = "drained";
      },
      (error: { code: string }) => {
        outcome = error.code;
      },
    );
    for (let round = 0; round < 6; round++) {
      await clock.advance(limits.hopTimeoutMs * 0.9);
      const before = data.pendingCount;
      while (data.pendingCount === before) {
        bare.read();
        await clock.advance(0);
      }
    }
    expect(outcome).toBe("waiting");
    for (let passedMs = 0; passedMs < 2 * limits.hopTimeoutMs; passedMs += 1_100) {
      bare.read(1);
      await clock.advance(1_100);
    }
    await ended;
    expect(outcome).toBe("HOP_TIMEOUT");
    expect(clock.pendingTimers).toBe(0);
    data.destroy();
    bare.destroy();
  });

  test("a frame longer than any is refused at its header, and the socket closed", async () => {
    const { data, bare } = await receiver();
    bare.write(header(limits.segmentBytesPlain + 1));
    await expect(data.receive(soon())).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
    await once(bare, "close");
  });

  test("frames that arrived before the end are still handed out", async () => {
    const { data, bare } = await receiver();
    bare.end(Buffer.concat([header(0), header(0)]));
    await data.receive(soon());
    await data.receive(soon());
    await expect(data.receive(soon())).rejects.toMatchObject({ code: "RING_BROKEN" });
  });

  test("a reader that is in no hurry holds the sender back, and loses nothing", async () => {
    const [first, second] = (await open(2, "plaintext")) as [DataPeer, DataPeer];
    admitAll([first, second], purpose);
    const [data, bulk] = await Promise.all([
      first.plane.dial(
        { peerId: second.peerId, host: "127.0.0.1", port: second.plane.port },
        purpose,
        soon(),
      ),
      second.plane.accept(first.peerId, purpose, soon()),
    ]);
    const frameCount = 2_000;
    const payload = new Uint8Array(limits.segmentBytesPlain);
    for (let i = 0; i < frameCount; i++)
      bulk.send({ kind: frameKind.state, a: i, b: 0, c: 0, d: 0, payload: payload.subarray(i % 100) });
    const order: number[] = [];
    await data.receiveEach!((frame) => {
      order.push(frame.a);
      const more = order.length < frameCount;
      return order.length % 3 === 0 ? Promise.resolve(more) : more;
    }, never);
    expect(order).toEqual(Array.from({ length: frameCount }, (_, i) => i));
    await bulk.drained(soon());
  });
});
