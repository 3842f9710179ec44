import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { afterEach, expect, test, vi } from "vitest";
import { z } from "zod";
import { openNetwork } from "../../agent/network/network.ts";
import { createSwarmKey } from "../../agent/network/swarm-key.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Conversation, Topic } from "../../protocol/ports.ts";
import { openNetworks, silentLog } from "../fixtures/network.ts";

const echo: Conversation<{ text: string }, { text: string; from: string }> = {
  protocol: "/ringfold/test/echo/1",
  request: z.object({ text: z.string() }),
  response: z.object({ text: z.string(), from: z.string() }),
  requestBytesMax: 100_000,
  responseBytesMax: 100_000,
  timeoutMs: 2_000,
};
const words: Topic<{ word: string }> = {
  name: "/ringfold/test/words/1",
  schema: z.object({ word: z.string() }),
};

const opened: { close: () => Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((cluster) => cluster.close()));
});
const open = async (...parameters: Parameters<typeof openNetworks>) => {
  const cluster = await openNetworks(...parameters);
  opened.push(cluster);
  return cluster;
};

test("a request is answered, and the handler knows who asked", async () => {
  const [first, second] = (await open(2)).nodes;
  first!.handle(echo, async ({ text }, { from }) => ({ text, from }));
  expect(await second!.request(first!.peerId, echo, { text: "hello" })).toEqual({
    text: "hello",
    from: second!.peerId,
  });
});

test("a refusal arrives with its code and data, never a stack", async () => {
  const [first, second] = (await open(2)).nodes;
  first!.handle(echo, async () => {
    throw new RingfoldError("STALE_TERM", "term 3 is over", { term: 3 });
  });
  await expect(second!.request(first!.peerId, echo, { text: "" })).rejects.toMatchObject({
    code: "STALE_TERM",
    message: "term 3 is over",
    data: { term: 3 },
  });
});

test("messages that are too large or of the wrong shape are refused on the receiving side", async () => {
  const [first, second] = (await open(2)).nodes;
  first!.handle(echo, async ({ text }) => ({ text, from: "" }));
  const foreign = { ...echo, request: z.any(), requestBytesMax: 10_000_000 };
  await expect(second!.request(first!.peerId, foreign, { text: 7 })).rejects.toMatchObject({
    code: "MESSAGE_INVALID",
  });
  await expect(second!.request(first!.peerId, foreign, { text: "x".repeat(200_000) })).rejects.toBeInstanceOf(
    RingfoldError,
  );
  expect(await second!.request(first!.peerId, echo, { text: "still here" })).toMatchObject({
    text: "still here",
  });
});

test("a request ends at its deadline and when its caller aborts", async () => {
  const [first, second] = (await open(2)).nodes;
  first!.handle(echo, (_request, { signal }) => once(signal, "abort").then(() => ({ text: "", from: "" })));
  await expect(second!.request(first!.peerId, echo, { text: "" }, { timeoutMs: 50 })).rejects.toMatchObject({
    code: "REQUEST_TIMEOUT",
  });
  await expect(
    second!.request(first!.peerId, echo, { text: "" }, { signal: AbortSignal.abort() }),
  ).rejects.toMatchObject({ code: "CANCELLED" });
});

test("large messages over several connections, as many as a data set has", async () => {
  const [first, ...others] = (await open(3)).nodes;
  const large = { ...echo, requestBytesMax: 2_000_000, responseBytesMax: 2_000_000, timeoutMs: 20_000 };
  first!.handle(large, async ({ text }, { from }) => ({ text, from }));
  const text = "0123456789abcdef".repeat(2 ** 16);
  const ask = async (node: (typeof others)[number]) => {
    for (let i = 0; i < 60; i++) {
      const answer = await node.request(first!.peerId, large, { text: i % 10 === 0 ? text : `short ${i}` });
      expect(answer.text === (i % 10 === 0 ? text : `short ${i}`)).toBe(true);
    }
  };
  await Promise.all(others.map(ask));
}, 60_000);

test("a fact reaches every other peer, also those without a direct connection", async () => {
  const { nodes } = await open(3);
  const heard = Promise.all(
    nodes
      .slice(0, 2)
      .map((node) => new Promise((resolve) => node.subscribe(words, ({ word }) => resolve(word)))),
  );
  const speaker = nodes[2]!;
  // Subscriptions travel as well; the speaker repeats itself, as presence does.
  const timer = setInterval(() => void speaker.publish(words, { word: "ring" }), 50);
  expect(await heard.finally(() => clearInterval(timer))).toEqual(["ring", "ring"]);
});

test("the DHT finds a peer that was never dialled", async () => {
  const { nodes } = await open(3);
  nodes[1]!.handle(echo, async ({ text }) => ({ text, from: "" }));
  // Routing tables fill in the background once peers have identified each other.
  const answer = await vi.waitFor(
    () => nodes[2]!.request(nodes[1]!.peerId, echo, { text: "through the DHT" }),
    5_000,
  );
  expect(answer.text).toBe("through the DHT");
});

test("a peer without the swarm key gets no connection", async () => {
  const { nodes } = await open(1);
  const stranger = (await open(1, { swarmKey: createSwarmKey() })).nodes[0]!;
  await expect(stranger.connect(nodes[0]!.addresses(), AbortSignal.timeout(3_000))).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
  });
});

test("random bytes on the port do no harm", async () => {
  const { nodes } = await open(2);
  const [first, second] = nodes;
  first!.handle(echo, async ({ text }) => ({ text, from: "" }));
  const port = Number(/tcp\/(\d+)/.exec(first!.addresses()[0]!)?.[1]);
  const socket = connectTcp(port, "127.0.0.1");
  await once(socket, "connect");
  socket.on("error", () => {}); // being cut off is the expected end
  socket.end(Buffer.from(Array.from({ length: 4_096 }, (_, i) => (i * 7_919) % 256)));
  expect(await second!.request(first!.peerId, echo, { text: "alive" })).toMatchObject({ text: "alive" });
  socket.destroy();
});

test("a closed socket is news at once", async () => {
  const { nodes } = await open(2);
  const gone = new Promise<string>((resolve) =>
    nodes[0]!.onConnection(({ peerId, connected }) => {
      if (!connected) resolve(peerId);
    }),
  );
  await nodes[1]!.close();
  expect(await gone).toBe(nodes[1]!.peerId);
});

test("when the process behind a peer goes and another one of its key stays, everybody hears of it and finds the other", async () => {
  const { nodes, swarmKey } = await open(1);
  const member = nodes[0]!;
  const privateKey = await generateKeyPair("Ed25519");
  const start = async () => {
    const listen = { host: "127.0.0.1", port: 0 };
    const node = await openNetwork({ privateKey, swarmKey, listen, relay: true, log: silentLog });
    opened.push(node);
    return node;
  };
  const [leader, successor] = [await start(), await start()];
  const heard: string[] = [];
  member.subscribe(words, () => {});
  successor.subscribe(words, ({ word }) => heard.push(word));
  const left: string[] = [];
  member.onConnection(({ peerId, connected }) => connected || left.push(peerId));
  await member.connect(leader.addresses(), AbortSignal.timeout(5_000));
  // As when it has found the member by mDNS.
  await successor.connect(member.addresses(), AbortSignal.timeout(5_000));
  await leader.close();
  await vi.waitFor(() => expect(left).toEqual([successor.peerId]));
  await member.connect(successor.addresses(), AbortSignal.timeout(5_000));
  await vi.waitFor(async () => {
    await member.publish(words, { word: "here" });
    expect(heard).toContain("here");
  });
});
