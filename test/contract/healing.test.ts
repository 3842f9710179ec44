import { randomBytes } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import type { FrameSocket } from "../../agent/network/data-plane/frame-socket.ts";
import { digestState } from "../../agent/training/healing/digest-state.ts";
import { fetchState } from "../../agent/training/healing/fetch-state.ts";
import { announcementFrame, blockRange, partFrame } from "../../agent/training/healing/state-frames.ts";
import { StateSource } from "../../agent/training/healing/state-source.ts";
import { openStateThread } from "../../agent/training/healing/state-thread.ts";
import { limits } from "../../protocol/limits.ts";
import { systemClock } from "../../protocol/ports.ts";
import { admissionOf, admitAll, type DataPeer, openDataPeers } from "../fixtures/data-planes.ts";
import { FakeClock, settle } from "../simulation/fake-clock.ts";

const copying = { digestState, clock: systemClock };
const soon = () => AbortSignal.timeout(10_000);
const purpose = { kind: "heal", jobId: "job-1", generation: 3 } as const;
/** Several blocks, and a last one that is not whole. */
const state = new Uint8Array(randomBytes(24 * limits.stateBlockBytes + 12_345));

const opened: DataPeer[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ plane }) => plane.close()));
});

interface Source extends DataPeer {
  readonly source: StateSource;
}

/** A rank that heals, and ranks that offer a state each. */
async function openRanks(states: readonly Uint8Array[]): Promise<{ healing: DataPeer; sources: Source[] }> {
  const [healing, ...peers] = (await openDataPeers(1 + states.length, "encrypted")) as [
    DataPeer,
    ...DataPeer[],
  ];
  opened.push(healing, ...peers);
  admitAll([healing, ...peers], purpose);
  const sources = peers.map((peer, index) => {
    const source = new StateSource({ plane: peer.plane, digestState });
    source.offer(admissionOf([healing, ...peers], purpose), states[index]!.slice());
    return { ...peer, source };
  });
  return { healing, sources };
}

const dialAll = (healing: DataPeer, sources: readonly DataPeer[]): Promise<FrameSocket[]> =>
  Promise.all(
    sources.map(({ peerId, plane }) =>
      healing.plane.dial({ peerId, host: "127.0.0.1", port: plane.port }, purpose, soon()),
    ),
  );

describe("a state is copied", () => {
  test.each([1, 2, 4])("from %i ranks at once, each giving a part of it", async (count) => {
    const { healing, sources } = await openRanks(Array<Uint8Array>(count).fill(state));
    const sockets = await dialAll(healing, sources);
    expect(Buffer.compare(await fetchState(sockets, copying, soon()), state)).toBe(0);
    const received = sockets.map(({ bytesReceived }) => bytesReceived);
    expect(received.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(1.01 * state.length + 10_000);
    if (count > 1) expect(Math.min(...received)).toBeGreaterThan(limits.stateBlockBytes / 2);
  });

  test("from a thread of its own, on another port, where it is large", async () => {
    const [healing, peer] = (await openDataPeers(2, "encrypted")) as [DataPeer, DataPeer];
    opened.push(healing, peer);
    const { peerId, certificate } = peer;
    const thread = await openStateThread({
      plane: { peerId, certificate, host: "127.0.0.1", transport: "encrypted" },
      logLevel: "silent",
    });
    try {
      const plan = admissionOf([healing, peer], purpose);
      const to = { peerId, host: "127.0.0.1", port: thread.port };
      const dialling = healing.plane.dial(to, purpose, soon()); // before it has heard of the plan
      thread.offer(plan, state.slice());
      expect(Buffer.compare(await fetchState([await dialling], copying, soon()), state)).toBe(0);
      thread.withdraw();
      const late = await healing.plane.dial(to, purpose, soon());
      await expect(fetchState([late], copying, soon())).rejects.toMatchObject({ code: "RING_BROKEN" });
    } finally {
      await thread.close();
    }
  });

  test("by no thread that cannot listen", async () => {
    const [peer] = (await openDataPeers(1, "encrypted")) as [DataPeer];
    opened.push(peer);
    const { peerId, certificate } = peer;
    const plane = { peerId, certificate, host: "192.0.2.1", transport: "encrypted" } as const;
    await expect(openStateThread({ plane, logLevel: "silent" })).rejects.toMatchObject({
      message: expect.stringContaining("EADDRNOTAVAIL"),
    });
  });

  test("of less than a block", async () => {
    const { healing, sources } = await openRanks([state.subarray(0, 100), state.subarray(0, 100)]);
    const copy = await fetchState(await dialAll(healing, sources), copying, soon());
    expect(Buffer.compare(copy, state.subarray(0, 100))).toBe(0);
  });

  test("although one of them breaks off", async () => {
    const { healing, sources } = await openRanks([state, state, state]);
    const sockets = await dialAll(healing, sources);
    const copy = fetchState(sockets, copying, soon());
    sockets[1]!.destroy();
    expect(Buffer.compare(await copy, state)).toBe(0);
  });

  test("although the slowest breaks off long after the others had nothing left to give", async () => {
    const clock = new FakeClock(Date.now());
    const peers = (await openDataPeers(3, "encrypted", { clock })) as [DataPeer, DataPeer, DataPeer];
    opened.push(...peers);
    const [healing, fast, slow] = peers;
    admitAll(peers, purpose);
    new StateSource({ plane: fast.plane, digestState }).offer(admissionOf(peers, purpose), state.slice());
    let givePart = () => {};
    slow.plane.serve("heal", async (socket) => {
      socket.send(announcementFrame(state.length));
      const { b: block } = await socket.receive(soon());
      const { start } = blockRange(block, state.length);
      let part = 0;
      givePart = () => socket.send(partFrame(block, part, state.subarray(start + part, start + ++part)));
      await new Promise((resolve) => socket.closed.addEventListener("abort", resolve));
    });
    const [fromSlow, fromFast] = (await dialAll(healing, [slow, fast])) as [FrameSocket, FrameSocket];
    const copy = fetchState([fromSlow, fromFast], { digestState, clock }, soon());
    const blocksLeft = 1 + limits.stateBlocksAhead; // of which the slow one was asked for some
    while (fromFast.bytesReceived < state.length - blocksLeft * limits.stateBlockBytes) await settle();
    // Two minutes in which the slow one gives a byte now and then, and the fast one is not asked for anything.
    for (let passedMs = 0; passedMs < 120_000; passedMs += limits.hopTimeoutMs / 3) {
      const before = [fromFast, fromSlow].map(({ bytesReceived }) => bytesReceived);
      givePart();
      await clock.advance(limits.hopTimeoutMs / 3);
      while ([fromFast, fromSlow].some(({ bytesReceived }, i) => bytesReceived === before[i])) await settle();
    }
    fromSlow.destroy();
    expect(Buffer.compare(await copy, state)).toBe(0);
    expect(fromSlow.bytesReceived).toBeLessThan(limits.stateBlockBytes);
  });
});

describe("a state is refused", () => {
  test("that two ranks disagree about, and the one who has another is named", async () => {
    const other = state.slice();
    other[3 * limits.stateBlockBytes]! ^= 1;
    const { healing, sources } = await openRanks([state, other]);
    await expect(fetchState(await dialAll(healing, sources), copying, soon())).rejects.toMatchObject({
      code: "ARTEFACT_CORRUPT",
      data: { peer: expect.any(String) },
    });
  });

  test("whose length is another at one of them", async () => {
    const { healing, sources } = await openRanks([state, state.subarray(1)]);
    const copy = await fetchState(await dialAll(healing, sources), copying, soon()).catch((error) => error);
    // Whoever announces first decides; the other one is done without, and the digest still has to fit.
    expect(Buffer.compare(copy, state) === 0 || Buffer.compare(copy, state.subarray(1)) === 0).toBe(true);
  });

  test("of a generation that is over", async () => {
    const { healing, sources } = await openRanks([state]);
    sources[0]!.source.offer({ ...purpose, generation: 4, peerIds: [] }, state.slice());
    const sockets = await dialAll(healing, sources);
    await expect(fetchState(sockets, copying, soon())).rejects.toMatchObject({ code: "RING_BROKEN" });
  });

  test("when every source is gone", async () => {
    const { healing, sources } = await openRanks([state, state]);
    const sockets = await dialAll(healing, sources);
    const copy = fetchState(sockets, copying, soon());
    const refused = expect(copy).rejects.toMatchObject({ code: "RING_BROKEN" });
    for (const socket of sockets) socket.destroy();
    await refused;
  });
});
