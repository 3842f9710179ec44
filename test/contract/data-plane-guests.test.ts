import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { generateCertificate } from "@libp2p/tls/utils";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { DataSocket } from "../../agent/network/data-plane/data-socket.ts";
import { encodeFrame } from "../../agent/network/data-plane/frame-format.ts";
import { frameKind } from "../../agent/network/data-plane/frame-socket.ts";
import { answerHello, askHello } from "../../agent/network/data-plane/hello.ts";
import { upstreamLink } from "../../agent/network/data-plane/ring-links.ts";
import type { DownstreamLink } from "../../agent/ring/link.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { decode, encode } from "../../protocol/codec.ts";
import type { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Log } from "../../protocol/ports.ts";
import { admitAll, connectRing, type DataPeer, openDataPeers } from "../fixtures/data-planes.ts";
import { FakeClock } from "../simulation/fake-clock.ts";

const purpose = { kind: "ring", jobId: "job-1", generation: 7 } as const;
const soon = () => AbortSignal.timeout(5_000);
const never = new AbortController().signal;
const transports = ["encrypted", "plaintext"] as const;
type Transport = (typeof transports)[number];

const opened: DataPeer[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ plane }) => plane.close()));
});

/** Three real data planes on one clock, and what they refuse. */
async function openWorld(transport: Transport, startMs = Date.now()) {
  const refusals: RingfoldError[] = [];
  let wake = () => {};
  const take = (fields: object) => {
    refusals.push((fields as { err: RingfoldError }).err);
    wake();
  };
  const ignore = () => {};
  const log: Log = { debug: take, info: ignore, warn: take, error: ignore };
  const clock = new FakeClock(startMs);
  const peers = await openDataPeers(3, transport, { clock, log });
  opened.push(...peers);
  const [self, second, stranger] = peers as [DataPeer, DataPeer, DataPeer];
  const refusal = async (): Promise<RingfoldError> => {
    while (refusals.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return refusals.shift()!;
  };
  return { clock, self, second, stranger, refusal, refusals };
}

const at = ({ peerId, plane }: DataPeer) => ({ peerId, host: "127.0.0.1", port: plane.port });

/** A connection of our own making: bytes go to `socket`, frames come from `heard`. */
async function connect(to: DataPeer, transport: Transport, certificate = to.certificate) {
  const address = { host: "127.0.0.1", port: to.plane.port };
  const options = {
    ...address,
    ...certificate,
    rejectUnauthorized: false,
    ALPNProtocols: ["ringfold-data/3"],
  };
  const socket = transport === "plaintext" ? net.connect(address) : tls.connect(options);
  onTestFinished(() => void socket.destroy());
  await once(socket, transport === "plaintext" ? "connect" : "secureConnect");
  const data = new DataSocket(socket, { peerId: to.peerId });
  const heard = async (): Promise<Record<string, unknown>> =>
    decode((await data.receive(soon())).payload, z.record(z.string(), z.unknown()), 2_048);
  return { socket, heard };
}

type BadHello = [
  what: string,
  code: string,
  bytes: (self: DataPeer, second: DataPeer, content: ReturnType<typeof helloOf>) => Buffer,
];
const noHello = { kind: frameKind.segment, a: 0, b: 0, c: 0, d: 0 };
const yearMs = 365.25 * 86_400_000;

/** The same frame with a payload that ends early. */
function shorter(frame: Buffer): Buffer {
  frame.writeUInt32LE(frame.readUInt32LE(20) - 10, 20);
  return frame;
}

/** A downstream neighbour who takes everything. */
const takesAll = (peerId: string): DownstreamLink => ({
  ...{ peerId, pendingCount: 0, bytesSent: 0, hopTimeoutMs: limits.hopTimeoutMs },
  closed: never,
  ...{ send: () => {}, drained: async () => {}, destroy: () => {} },
});

const helloOf = (
  from: DataPeer,
  to: DataPeer,
  { challenge, generation = purpose.generation }: Record<string, unknown>,
) => ({
  ...{ from: from.peerId, to: to.peerId, purpose: { ...purpose, generation } },
  ...{ echo: challenge, challenge: "0".repeat(32) },
});

const helloFrame = (content: object): Buffer =>
  encodeFrame({ kind: frameKind.hello, a: 0, b: 0, c: 0, d: 0, payload: encode(content) });

/** The rest of the test's title: the ring of the two members forms and sums, whatever the stranger did. */
async function expectRing(members: readonly DataPeer[]): Promise<void> {
  const rings = await connectRing(members, purpose);
  const buffers = rings.map(() => new Float32Array(1_000).fill(1));
  await Promise.all(rings.map((ring, rank) => ring.allReduce(buffers[rank]!, never)));
  expect(buffers.map((buffer) => buffer[999])).toEqual([2, 2]);
}

describe.each(transports)("%s: refused by name on both sides, and the ring forms", (transport) => {
  test("a peer of another key, which no plan names", async () => {
    const { self, second, stranger, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    for (const kind of ["ring", "heal"] as const) {
      const dialled = stranger.plane.dial(at(self), { ...purpose, kind }, soon());
      await expect(dialled).rejects.toMatchObject({ code: "NOT_A_MEMBER", data: { peer: self.peerId } });
      expect(await refusal()).toMatchObject({
        code: "NOT_A_MEMBER",
        data: { peer: stranger.peerId, generation: 7 },
      });
    }
    await expectRing([self, second]);
  });

  test("a stranger who came before the plan, when the plan comes", async () => {
    const { self, second, stranger } = await openWorld(transport);
    const dialled = expect(stranger.plane.dial(at(self), purpose, soon())).rejects.toMatchObject({
      code: "NOT_A_MEMBER",
    });
    await expectRing([self, second]);
    await dialled;
  });

  test("a hello for a generation that is over", async () => {
    const { self, second, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const dialled = second.plane.dial(at(self), { ...purpose, generation: 6 }, soon());
    await expect(dialled).rejects.toMatchObject({ code: "STALE_GENERATION" });
    expect(await refusal()).toMatchObject({
      code: "STALE_GENERATION",
      data: { peer: second.peerId, generation: 6, expectedGeneration: 7 },
    });
    await expectRing([self, second]);
  });

  test("a hello for a generation that never comes, after its time", async () => {
    const { self, second, clock, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const { socket, heard } = await connect(self, transport, second.certificate);
    const { challenge } = await heard();
    socket.write(helloFrame(helloOf(second, self, { challenge, generation: 8 })));
    await clock.advance(limits.rendezvousTimeoutMs);
    expect(await heard()).toMatchObject({ refused: { code: "REQUEST_TIMEOUT" } });
    expect(await refusal()).toMatchObject({ code: "REQUEST_TIMEOUT" });
    await expectRing([self, second]);
  });

  test.each(["ring", "heal"] as const)(
    "a hello for a generation that is not known, by one who hangs up: %s",
    async (kind) => {
      const { self, second, stranger, clock, refusal } = await openWorld(transport);
      const served: string[] = [];
      self.plane.serve("heal", async ({ peerId }) => void served.push(peerId));
      const { socket, heard } = await connect(self, transport, stranger.certificate);
      const { challenge } = await heard();
      const unknown = { kind, jobId: purpose.jobId, generation: 999_999 };
      const hello = { ...helloOf(stranger, self, { challenge }), purpose: unknown };
      socket.end(helloFrame(hello));
      // What waited for the plan has ended with it: neither a timer nor a buffer is left, and the plan finds nobody.
      expect(await refusal()).toMatchObject({ code: "RING_BROKEN" });
      expect(clock.pendingTimers).toBe(0);
      self.plane.admit({ ...unknown, peerIds: [stranger.peerId] });
      const late = await stranger.plane.dial(at(self), { ...unknown, kind: "heal" }, soon());
      late.destroy();
      expect(served).toEqual([stranger.peerId]);
      const next = { ...purpose, generation: 1_000_000 };
      admitAll([self, second], next);
      const [, accepted] = await Promise.all([
        second.plane.dial(at(self), next, soon()),
        self.plane.accept(second.peerId, next, soon()),
      ]);
      accepted.destroy();
    },
  );

  test("a member's link that nobody asks for, after its time: it makes no room scarce", async () => {
    const { self, second, clock, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const { socket, heard } = await connect(self, transport, second.certificate);
    socket.write(helloFrame(helloOf(second, self, await heard())));
    while (clock.pendingTimers > 1) await clock.advance(0); // the hello is here: nobody waits for a frame
    await clock.advance(limits.rendezvousTimeoutMs);
    expect(await heard()).toMatchObject({ refused: { code: "REQUEST_TIMEOUT" } });
    expect(await refusal()).toMatchObject({ code: "REQUEST_TIMEOUT" });
    expect(clock.pendingTimers).toBe(0);
    await expectRing([self, second]);
  });

  test("a link that waits in a generation that is over, when the next one comes", async () => {
    const { self, second, clock, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const { socket, heard } = await connect(self, transport, second.certificate);
    socket.write(helloFrame(helloOf(second, self, await heard())));
    while (clock.pendingTimers > 1) await clock.advance(0);
    admitAll([self, second], { ...purpose, generation: 8 });
    expect(await heard()).toMatchObject({ refused: { code: "STALE_GENERATION" } });
    expect(await refusal()).toMatchObject({
      code: "STALE_GENERATION",
      data: { peer: second.peerId, expectedGeneration: 8 },
    });
  });

  test("a second dial for a link that is in use", async () => {
    const { self, second, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const [, accepted] = await Promise.all([
      second.plane.dial(at(self), purpose, soon()),
      self.plane.accept(second.peerId, purpose, soon()),
    ]);
    await expect(second.plane.dial(at(self), purpose, soon())).rejects.toMatchObject({
      code: "DUPLICATE_IDENTITY",
    });
    expect(await refusal()).toMatchObject({ code: "DUPLICATE_IDENTITY", data: { peer: second.peerId } });
    accepted.destroy();
  });

  test("a hello that was recorded on another connection", async () => {
    const { self, second, refusal } = await openWorld(transport);
    admitAll([self, second], purpose);
    const first = await connect(self, transport, second.certificate);
    const recorded = helloFrame(helloOf(second, self, await first.heard()));
    first.socket.destroy();
    expect(await refusal()).toMatchObject({ code: "RING_BROKEN" });
    const replay = await connect(self, transport, second.certificate);
    replay.socket.write(recorded);
    await replay.heard();
    expect(await replay.heard()).toMatchObject({ refused: { code: "HELLO_REPLAYED" } });
    expect(await refusal()).toMatchObject({ code: "HELLO_REPLAYED", data: { peer: second.peerId } });
    await expectRing([self, second]);
  });

  test.each([
    [
      "a hello for somebody else",
      "PEER_IDENTITY",
      (_self, second, content) => helloFrame({ ...content, to: second.peerId }),
    ],
    ["a hello longer than any", "MESSAGE_TOO_LARGE", () => helloFrame({ padding: "x".repeat(3_000) })],
    ["a hello cut short", "MESSAGE_INVALID", (_self, _second, content) => shorter(helloFrame(content))],
    [
      "a hello without its purpose",
      "MESSAGE_INVALID",
      (_s, _t, { purpose: _p, ...rest }) => helloFrame(rest),
    ],
    [
      "a segment before any hello",
      "MESSAGE_INVALID",
      () => encodeFrame({ ...noHello, payload: new Uint8Array(64) }),
    ],
  ] satisfies BadHello[])("%s", async (_what, code, bytes) => {
    const { self, second, refusal } = await openWorld(transport);
    const { socket, heard } = await connect(self, transport, second.certificate);
    socket.write(bytes(self, second, helloOf(second, self, await heard())));
    expect(await heard()).toMatchObject({ refused: { code } });
    expect(await refusal()).toMatchObject({ code });
    await expectRing([self, second]);
  });

  test("random bytes", async () => {
    const { self, second, refusal } = await openWorld(transport);
    const { socket, heard } = await connect(self, transport, second.certificate);
    await heard();
    socket.write(Buffer.alloc(4_096, 0xa5));
    await expect(heard()).rejects.toMatchObject({ code: "RING_BROKEN" }); // such a length is cut off without a word
    expect(await refusal()).toMatchObject({ code: "MESSAGE_TOO_LARGE" });
    await expectRing([self, second]);
  });

  test("a connection that says nothing", async () => {
    const { self, second, clock, refusal } = await openWorld(transport);
    const { heard } = await connect(self, transport, second.certificate);
    await heard();
    await clock.advance(limits.rendezvousTimeoutMs);
    expect(await heard()).toMatchObject({ refused: { code: "REQUEST_TIMEOUT" } });
    expect(await refusal()).toMatchObject({ code: "REQUEST_TIMEOUT" });
    expect(clock.pendingTimers).toBe(0);
    await expectRing([self, second]);
  });

  test("a hello that comes slower than a byte a second", async () => {
    const { self, second, clock, refusal } = await openWorld(transport);
    const { socket, heard } = await connect(self, transport, second.certificate);
    const bytes = helloFrame(helloOf(second, self, await heard()));
    for (let sent = 0; sent * 1_100 < limits.rendezvousTimeoutMs; sent++) {
      socket.write(bytes.subarray(sent, sent + 1));
      await clock.advance(1_100);
    }
    expect(await heard()).toMatchObject({ refused: { code: "REQUEST_TIMEOUT" } });
    expect(await refusal()).toMatchObject({ code: "REQUEST_TIMEOUT" });
    await expectRing([self, second]);
  });

  test("a thousand connections that say nothing", async () => {
    const { self, second } = await openWorld(transport);
    const crowd = Array.from({ length: 1_000 }, () =>
      net.connect({ host: "127.0.0.1", port: self.plane.port }),
    );
    onTestFinished(() => crowd.forEach((socket) => void socket.destroy()));
    const turnedOut = Promise.withResolvers<void>();
    let open = crowd.length;
    for (const socket of crowd) {
      socket.on("error", () => {});
      socket.resume();
      socket.once("close", () => {
        if (--open === limits.guestsMax) turnedOut.resolve();
      });
    }
    await turnedOut.promise;
    await expectRing([self, second]);
  });
});

describe("encrypted", () => {
  /** A certificate of libp2p's own making, as its author's clock would have dated it. */
  async function certificateFrom(yearsAgo: number) {
    const privateKey = await generateKeyPair("Ed25519");
    const nowMs = Date.now();
    vi.useFakeTimers({ toFake: ["Date"], now: nowMs - yearsAgo * yearMs });
    try {
      return await generateCertificate(privateKey);
    } finally {
      vi.useRealTimers();
    }
  }

  test.each([
    ["expired", 101],
    ["not yet valid", -1],
  ])("a dialler whose certificate is %s", async (reason, yearsAgo) => {
    const { self, second, refusal } = await openWorld("encrypted");
    const { heard } = await connect(self, "encrypted", await certificateFrom(yearsAgo));
    expect(await heard()).toMatchObject({ refused: { code: "PEER_IDENTITY" } });
    expect(await refusal()).toMatchObject({ code: "PEER_IDENTITY", data: { reason } });
    await expectRing([self, second]);
  });

  test("a listener whose certificate has expired on the dialler's clock", async () => {
    const { self, second } = await openWorld("encrypted");
    const late = await openWorld("encrypted", Date.now() + 101 * yearMs);
    await expect(late.self.plane.dial(at(self), purpose, soon())).rejects.toMatchObject({
      code: "PEER_IDENTITY",
      data: { peer: self.peerId, reason: "expired" },
    });
    await expectRing([self, second]);
  });

  test("a hello in the name of a member, with the certificate of another key", async () => {
    const { self, second, stranger, refusal } = await openWorld("encrypted");
    const { socket, heard } = await connect(self, "encrypted", stranger.certificate);
    socket.write(helloFrame(helloOf(second, self, await heard())));
    expect(await heard()).toMatchObject({ refused: { code: "PEER_IDENTITY" } });
    expect(await refusal()).toMatchObject({
      code: "PEER_IDENTITY",
      data: { peer: stranger.peerId, as: second.peerId },
    });
    await expectRing([self, second]);
  });

  test("a TLS handshake that comes slower than a byte a second", async () => {
    const { self, second, clock } = await openWorld("encrypted");
    const slow = net.connect({ host: "127.0.0.1", port: self.plane.port });
    slow.on("error", () => {});
    slow.resume();
    await once(slow, "connect");
    // The start of a TLS record that announces 512 bytes of a ClientHello.
    slow.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
    while (!slow.closed) {
      if (slow.writable) slow.write(Buffer.alloc(1));
      await clock.advance(1_100);
    }
    await expectRing([self, second]);
  });
});

test("a segment whose middle comes slower than a byte a second is a stall, named, after the time of a hop", async () => {
  const { self, second, clock } = await openWorld("plaintext");
  admitAll([self, second], purpose);
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const connected = once(server, "connection") as Promise<[net.Socket]>;
  const { port } = server.address() as net.AddressInfo;
  const dialled = self.plane.dial({ ...at(second), port }, purpose, soon());
  const [bare] = await connected;
  onTestFinished(() => void bare.destroy());
  const data = new DataSocket(bare, { peerId: self.peerId });
  answerHello(data, await askHello(data, { self: second.peerId, peer: undefined }, soon()));
  const links = { upstream: upstreamLink(await dialled), downstream: takesAll(second.peerId) };
  const outcome = new Ring({ rank: 0, worldSize: 2, links }).allReduce(new Float32Array(10), never);
  const refused = expect(outcome).rejects.toMatchObject({
    code: "HOP_TIMEOUT",
    data: { peer: second.peerId },
  });
  const bytes = encodeFrame({ ...noHello, d: 10, payload: new Uint8Array(20) });
  for (let sent = 0; sent * 1_100 < limits.hopTimeoutMs * 1.25; sent++) {
    bare.write(bytes.subarray(sent, sent + 1));
    await clock.advance(1_100);
  }
  await refused;
});
