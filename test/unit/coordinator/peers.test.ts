import { beforeEach, expect, test } from "vitest";
import { PeerTable } from "../../../coordinator/peers.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Presence } from "../../../protocol/messages/membership.ts";
import { exampleHello, examplePresence } from "../../fixtures/messages.ts";

const hello = exampleHello();
const { peerId } = hello;
let table: PeerTable;
const peer = () => table.get(peerId)!;
const presence = (changes: Partial<Presence> = {}): Presence => ({ ...examplePresence(), ...changes });

beforeEach(() => {
  table = new PeerTable();
  table.admit(hello, ["worker"], 0);
});

test.each([
  { silentMs: 0, state: "alive", live: true },
  { silentMs: 5_000, state: "alive", live: true },
  { silentMs: 8_000, state: "suspect", live: false },
  { silentMs: 15_000, state: "dead", live: false },
])("a connected newcomer silent for $silentMs ms is $state", ({ silentMs, state, live }) => {
  expect(table.state(peer(), silentMs)).toBe(state);
  expect(table.isLive(peer(), silentMs)).toBe(live);
});

/** Beats that arrive on the second, but for those that `isLost` names. @returns when the last one was heard */
function beat(count: number, isLost: (sequence: number) => boolean): number {
  let heardAtMs = 0;
  for (let sequence = 0; sequence < count; sequence++) {
    if (isLost(sequence)) continue;
    heardAtMs = sequence * limits.heartbeatIntervalMs;
    table.hear(presence({ sequence }), heardAtMs);
  }
  return heardAtMs;
}

test("a link that loses nothing is believed soon, one that loses much is given time", () => {
  const suspectAfterMs = (lastMs: number) => {
    let silentMs = 0;
    while (table.state(peer(), lastMs + silentMs) === "alive") silentMs += 100;
    return silentMs;
  };
  const clean = suspectAfterMs(beat(200, () => false));
  table = new PeerTable();
  table.admit(hello, ["worker"], 0);
  const lossy = suspectAfterMs(beat(200, (sequence) => sequence % 5 === 3));
  expect(clean).toBeLessThan(5_000);
  expect(lossy).toBeGreaterThan(2 * clean);
});

test("who loses its connection again and again is flapping, and after some quiet minutes is not", () => {
  const fall = (atMs: number) => {
    table.setConnected(peerId, false, atMs);
    table.admit({ ...hello, incarnation: `life-${atMs}` }, ["worker"], atMs + 1_000);
  };
  fall(0);
  fall(10_000);
  expect(table.isFlapping(peerId, 12_000)).toBe(false); // two restarts are an upgrade
  fall(20_000);
  expect(table.isFlapping(peerId, 22_000)).toBe(true);
  expect(table.view(peer(), 22_000)).toMatchObject({ state: "alive", flapping: true });
  expect(table.isFlapping(peerId, 120_000)).toBe(true);
  expect(table.isFlapping(peerId, 300_000)).toBe(false);
});

test("a goodbye is no flap", () => {
  for (let life = 0; life < 5; life++) {
    peer().left = true;
    table.setConnected(peerId, false, life);
    table.admit({ ...hello, incarnation: `life-${life}` }, ["worker"], life);
  }
  expect(table.isFlapping(peerId, 5)).toBe(false);
});

test("a closed socket is a death at once, and a new one a return", () => {
  expect(table.setConnected(peerId, false, 1)).toBe(true);
  expect(table.state(peer(), 1)).toBe("dead");
  expect(table.setConnected(peerId, false, 2)).toBe(false);
  expect(table.setConnected(peerId, true, 9_000)).toBe(true);
  expect(table.state(peer(), 9_000)).toBe("alive");
});

test("a leaver gets no more work, and has left once it is released", () => {
  peer().leaving = true;
  expect(table.isLive(peer(), 0)).toBe(false);
  expect(table.state(peer(), 0)).toBe("draining");
  peer().left = true;
  expect(table.state(peer(), 0)).toBe("left");
});

test("presence is taken in order, once", () => {
  const load = (cpu: number) => ({ cpu, residentBytes: 1 });
  expect(table.hear(presence({ sequence: 3, load: load(3) }), 100)).toBe(true);
  expect(table.hear(presence({ sequence: 3, load: load(4) }), 200)).toBe(false);
  expect(table.hear(presence({ sequence: 2, load: load(5) }), 300)).toBe(false);
  expect(peer()).toMatchObject({ load: load(3), lastSeenMs: 100 });
});

test("presence of a stranger, of an earlier life, or after leaving is dropped", () => {
  expect(table.hear(examplePresence(2), 1)).toBe(false);
  expect(table.hear(presence({ hello: { ...hello, incarnation: "before" } }), 1)).toBe(false);
  peer().left = true;
  expect(table.hear(presence({ sequence: 9 }), 1)).toBe(false);
});

test("a return in the same life keeps the sequence and the wish to leave; a new life starts anew", () => {
  table.hear(presence({ sequence: 7 }), 1);
  peer().leaving = true;
  table.admit(hello, ["worker"], 2);
  expect(peer()).toMatchObject({ sequence: 7, leaving: true });
  table.admit({ ...hello, incarnation: "second" }, ["worker"], 3);
  expect(peer()).toMatchObject({ sequence: -1, leaving: false, connected: true });
});

test("who is gone for long is forgotten; who is connected never is", () => {
  table.admit(exampleHello(2), ["worker"], 0);
  table.setConnected(peerId, false, 0);
  expect(table.sweep(limits.peerForgetMs - 1)).toEqual([]);
  expect(table.sweep(limits.peerForgetMs)).toEqual([peerId]);
  expect(table.all().map((known) => known.hello.peerId)).toEqual([exampleHello(2).peerId]);
});

test("the view carries what people see, and nothing else", () => {
  table.hear(presence(), 5);
  const { peerId: _id, name, release, addresses, gatewayUrl, capabilities } = hello;
  expect(table.view(peer(), 6)).toEqual({
    ...{ peerId, name, release, addresses, gatewayUrl, capabilities },
    roles: ["worker"],
    state: "alive",
    flapping: false,
    load: presence().load,
    links: presence().links,
    lastSeenMs: 5,
  });
});
