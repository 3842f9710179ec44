import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { connectRing, type DataPeer, openDataPeers } from "../fixtures/data-planes.ts";

const never = new AbortController().signal;
const soon = () => AbortSignal.timeout(5_000);
const purpose = { kind: "ring", jobId: "job-1", generation: 1 } as const;

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
    ALPNProtocols: ["ringfold-data/1"],
  });
  stranger.on("error", () => {});
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
