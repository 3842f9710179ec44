import { beforeEach, describe, expect, test } from "vitest";
import { PeerTable } from "../../../coordinator/peers.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Presence } from "../../../protocol/messages/membership.ts";
import { exampleHello, examplePresence } from "../../fixtures/messages.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const hello = exampleHello();
const { peerId } = hello;
let clock: FakeClock;
let table: PeerTable;
const peer = () => table.get(peerId)!;
const presence = (changes: Partial<Presence> = {}): Presence => ({ ...examplePresence(), ...changes });

/** Two others that are heard all the time, so that a silence is that of its peer. */
const others = [2, 3];

beforeEach(() => {
  clock = new FakeClock(0);
  table = new PeerTable(clock);
  for (const index of [1, ...others]) table.admit(exampleHello(index), ["worker"]);
});

/** Time passes under the eyes of the coordinator, who hears `heard` each second. */
function pass(durationMs: number, heard: readonly number[] = others): void {
  for (let passedMs = 0; passedMs < durationMs; passedMs += 500) {
    clock.stall(500);
    if (clock.nowMs() % 1_000 === 0)
      for (const index of heard) table.hear({ ...examplePresence(index), sequence: clock.nowMs() / 1_000 });
    table.adopt(table.look());
  }
}

test.each([
  { silentMs: 0, state: "alive", live: true },
  { silentMs: 5_000, state: "alive", live: true },
  { silentMs: 8_000, state: "suspect", live: false },
  { silentMs: 15_000, state: "dead", live: false },
])("a connected newcomer silent for $silentMs ms is $state", ({ silentMs, state, live }) => {
  pass(silentMs);
  expect(table.state(peer())).toBe(state);
  expect(table.isLive(peer())).toBe(live);
});

test("a sign of life is believed before the next look", () => {
  pass(15_000);
  table.heardFrom(peerId);
  expect(table.state(peer())).toBe("alive");
});

/** Beats that arrive on the second, but for those that `isLost` names. */
function beat(count: number, isLost: (sequence: number) => boolean): void {
  for (let sequence = 0; sequence < count; sequence++) {
    pass(1_000);
    if (!isLost(sequence)) table.hear(presence({ sequence }));
  }
}

test("a link that loses nothing is believed soon, one that loses much is given time", () => {
  const suspectAfterMs = () => {
    let silentMs = 0;
    for (; table.state(peer()) === "alive"; silentMs += 500) pass(500);
    return silentMs;
  };
  beat(200, () => false);
  const clean = suspectAfterMs();
  table.admit({ ...hello, incarnation: "other" }, ["worker"]);
  for (let sequence = 0; sequence < 200; sequence++) {
    pass(1_000);
    if (sequence % 5 !== 3)
      table.hear(presence({ hello: { ...hello, incarnation: "other" }, sequence: 1_000 + sequence }));
  }
  const lossy = suspectAfterMs();
  expect(clean).toBeLessThan(5_500);
  expect(lossy).toBeGreaterThan(2 * clean);
});

test("who loses its connection again and again is flapping, and after some quiet minutes is not", () => {
  const fall = () => {
    table.setConnected(peerId, false);
    pass(1_000);
    table.admit({ ...hello, incarnation: `life-${clock.nowMs()}` }, ["worker"]);
    pass(2_000);
  };
  fall();
  pass(7_000);
  fall();
  expect(table.isFlapping(peerId)).toBe(false); // two restarts are an upgrade
  pass(7_000);
  fall();
  expect(table.isFlapping(peerId)).toBe(true);
  expect(table.view(peer())).toMatchObject({ state: "alive", flapping: true });
  pass(97_000);
  expect(table.isFlapping(peerId)).toBe(true);
  expect(table.look().isChanged).toBe(false);
  pass(180_000);
  expect(table.isFlapping(peerId)).toBe(false);
});

test("that a peer has calmed down is a change, though nothing happens", () => {
  for (let life = 0; life < 4; life++) {
    table.setConnected(peerId, false);
    table.admit({ ...hello, incarnation: `life-${life}` }, ["worker"]);
  }
  pass(1_000);
  expect(table.isFlapping(peerId)).toBe(true);
  let changes = 0;
  for (let second = 0; second < 300; second++) {
    for (const index of [1, 2, 3]) table.heardFrom(exampleHello(index).peerId);
    clock.stall(1_000);
    const judgement = table.look();
    if (judgement.isChanged) changes++;
    table.adopt(judgement);
  }
  expect({ changes, isFlapping: table.isFlapping(peerId) }).toEqual({ changes: 1, isFlapping: false });
});

test("a goodbye is no flap", () => {
  for (let life = 0; life < 5; life++) {
    peer().left = true;
    table.setConnected(peerId, false);
    table.admit({ ...hello, incarnation: `life-${life}` }, ["worker"]);
  }
  expect(table.isFlapping(peerId)).toBe(false);
});

test("a closed socket is a death at once, and a new one a return", () => {
  expect(table.setConnected(peerId, false)).toBe(true);
  expect(table.state(peer())).toBe("dead");
  expect(table.setConnected(peerId, false)).toBe(false);
  pass(9_000);
  expect(table.state(peer())).toBe("dead");
  expect(table.setConnected(peerId, true)).toBe(true);
  expect(table.state(peer())).toBe("alive");
});

test("a leaver gets no more work, and has left once it is released", () => {
  peer().leaving = true;
  expect(table.isLive(peer())).toBe(false);
  expect(table.state(peer())).toBe("draining");
  peer().left = true;
  expect(table.state(peer())).toBe("left");
});

test("presence is taken in order, once", () => {
  const load = (cpu: number) => ({ cpu, residentBytes: 1 });
  pass(1_000);
  expect(table.hear(presence({ sequence: 3, load: load(3) }))).toBe(true);
  pass(1_000);
  expect(table.hear(presence({ sequence: 3, load: load(4) }))).toBe(false);
  expect(table.hear(presence({ sequence: 2, load: load(5) }))).toBe(false);
  expect(peer()).toMatchObject({ load: load(3), lastSeenMs: 1_000 });
});

test("presence of a stranger, of an earlier life, or after leaving is dropped", () => {
  expect(table.hear(examplePresence(4))).toBe(false);
  expect(table.hear(presence({ hello: { ...hello, incarnation: "before" } }))).toBe(false);
  peer().left = true;
  expect(table.hear(presence({ sequence: 9 }))).toBe(false);
});

test("a return in the same life keeps the sequence and the wish to leave; a new life starts anew", () => {
  table.hear(presence({ sequence: 7 }));
  peer().leaving = true;
  table.admit(hello, ["worker"]);
  expect(peer()).toMatchObject({ sequence: 7, leaving: true });
  table.admit({ ...hello, incarnation: "second" }, ["worker"]);
  expect(peer()).toMatchObject({ sequence: -1, leaving: false, connected: true });
});

test("who is gone for long is forgotten; who is connected never is", () => {
  table.setConnected(peerId, false);
  pass(limits.peerForgetMs - 500, [2]);
  expect(table.sweep()).toEqual([]);
  pass(500, [2]);
  expect(table.sweep()).toEqual([peerId]);
  expect(table.all().map((known) => known.hello.peerId)).toEqual(
    others.map((index) => exampleHello(index).peerId),
  );
});

test("the view carries what people see, and nothing else", () => {
  clock.stall(5);
  table.hear(presence());
  clock.stall(1);
  const { peerId: _id, name, release, addresses, gatewayUrl, capabilities } = hello;
  expect(table.view(peer())).toEqual({
    ...{ peerId, name, release, addresses, gatewayUrl, capabilities },
    roles: ["worker"],
    state: "alive",
    flapping: false,
    load: presence().load,
    links: presence().links,
    lastSeenMs: 5,
  });
});

describe("a coordinator that hears nobody", () => {
  const states = () => table.all().map((each) => table.state(each));
  const everybody = [1, 2, 3];

  test("takes it for its own trouble, whatever becomes of its sockets, for as long as that lasts", () => {
    pass(60_000, everybody);
    pass(5_000, []);
    table.setConnected(peerId, false);
    pass(600_000, []);
    expect(states()).toEqual(["suspect", "suspect", "suspect"]);
    expect(table.isExcused(peer())).toBe(true);
    expect(table.sweep()).toEqual([]);
    expect(table.isFlapping(peerId)).toBe(false);
  });

  test("waits some time for all when it hears the first again, and then no longer", () => {
    pass(60_000, everybody);
    pass(60_000, []);
    pass(9_000, [2, 3]);
    expect(states()).toEqual(["suspect", "alive", "alive"]);
    pass(5_000, [2, 3]);
    expect(states()).toEqual(["dead", "alive", "alive"]);
  });

  test("gives a majority up that stays silent while others are heard", () => {
    pass(60_000, everybody);
    pass(25_000, [3]);
    expect(states()).toEqual(["suspect", "suspect", "alive"]);
    pass(15_000, [3]);
    expect(states()).toEqual(["dead", "dead", "alive"]);
  });

  test("knows a death that was told before from a silence that is its own", () => {
    pass(60_000, everybody);
    table.setConnected(peerId, false);
    pass(60_000, [2, 3]);
    pass(60_000, []);
    expect(states()).toEqual(["dead", "suspect", "suspect"]);
    pass(60_000, [2]);
    expect(states()).toEqual(["dead", "alive", "dead"]);
  });

  test("does not believe a socket that closes before anybody is suspected, when nobody is heard", () => {
    pass(60_000, everybody);
    pass(3_500, []);
    table.setConnected(peerId, false);
    expect(table.state(peer())).toBe("suspect");
  });

  test.each([
    ["a pause", () => clock.stall(25_000)],
    ["a cut", () => pass(60_000, [])],
  ])("suspects as soon after %s as without it", (_what, happen) => {
    const suspectAfterMs = () => {
      let silentMs = 0;
      for (; table.state(peer()) === "alive"; silentMs += 500) pass(500);
      return silentMs;
    };
    pass(60_000, everybody);
    happen();
    pass(15_000, everybody);
    expect(suspectAfterMs()).toBeLessThan(6_000);
  });

  test("takes sockets that close after a pause of its own for given up, and waits for who comes back", () => {
    pass(60_000, everybody);
    clock.stall(25_000);
    table.setConnected(peerId, false);
    expect(states()).toEqual(["suspect", "alive", "alive"]);
    expect(table.isExcused(peer())).toBe(true);
    pass(5_000, [2, 3]);
    table.setConnected(exampleHello(2).peerId, false);
    expect(states()).toEqual(["suspect", "suspect", "alive"]);
    table.setConnected(exampleHello(2).peerId, true);
    pass(20_000, [2, 3]);
    expect(states()).toEqual(["dead", "alive", "alive"]);
  });

  test("counts no silence in which it did not listen: a pause of its machine kills nobody", () => {
    pass(60_000, everybody);
    clock.stall(3_600_000);
    expect(states()).toEqual(["alive", "alive", "alive"]);
    table.adopt(table.look());
    expect(states()).toEqual(["alive", "alive", "alive"]);
    pass(60_000, everybody);
    expect(states()).toEqual(["alive", "alive", "alive"]);
  });
});
