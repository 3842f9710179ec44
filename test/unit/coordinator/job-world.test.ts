import { beforeEach, expect, test } from "vitest";
import { JobWorld } from "../../../coordinator/job-world.ts";
import { PeerTable } from "../../../coordinator/peers.ts";
import { limits } from "../../../protocol/limits.ts";
import { exampleHello, examplePresence } from "../../fixtures/messages.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

let clock: FakeClock;
let peers: PeerTable;
let busy: Set<string>;
let world: JobWorld;
const id = (index: number) => exampleHello(index).peerId;

beforeEach(() => {
  clock = new FakeClock();
  peers = new PeerTable(clock);
  busy = new Set();
  world = new JobWorld({ peers }, (peerId) => busy.has(peerId));
  for (const index of [1, 2, 3]) peers.admit(exampleHello(index), ["worker"]);
});

const idle = () => world.agents().flatMap(({ peerId, idle }) => (idle ? [peerId] : []));

test("a peer may be given to a job while it is well, a worker, and works for none", () => {
  busy.add(id(1));
  peers.admit(exampleHello(4), ["server"]);
  peers.setConnected(id(3), false);
  expect(world.peers().get(id(1))).toMatchObject({ eligible: false, connected: true });
  expect(world.peers().get(id(2))).toMatchObject({ eligible: true, connected: true, silentMs: 0 });
  expect(world.peers().get(id(3))).toMatchObject({ eligible: false, connected: false });
  expect(world.peers().get(id(4))).toMatchObject({ eligible: false, connected: true });
  expect(world.peers().get(id(5))).toBeUndefined();
  expect(world.agents().map(({ peerId }) => peerId)).toEqual([id(1), id(2)]);
  expect(idle()).toEqual([id(2)]);
});

test("one look sees one moment, until a job takes an agent or lets one go", async () => {
  await world.shared(async () => {
    const seen = world.peers().get(id(1));
    expect(idle()).toHaveLength(3);
    busy.add(id(1));
    expect(world.peers().get(id(1))).toBe(seen);
    expect(idle()).toHaveLength(3);
    world.membersChanged();
    expect(world.peers().get(id(1))).toMatchObject({ eligible: false });
    expect(idle()).toEqual([id(2), id(3)]);
  });
  busy.clear();
  expect(idle()).toHaveLength(3);
});

test("what an agent has is known of workers alone, and stays known when it is away", () => {
  peers = new PeerTable(clock);
  world = new JobWorld({ peers }, () => false);
  const hello = exampleHello();
  const gpus = [{ name: "GPU", memoryBytes: 24e9 }];
  peers.admit({ ...hello, capabilities: { ...hello.capabilities, gpus } }, ["worker"]);
  peers.admit(exampleHello(2), ["server"]);
  const [agent, ...others] = world.agents();
  expect(others).toEqual([]);
  expect(agent).toMatchObject({
    peerId: hello.peerId,
    idle: true,
    gpuMemoryBytes: 24e9,
    labels: { room: "a" },
  });
  const offers = world.offers();
  expect(offers).toMatchObject([{ gpuMemoryBytes: 24e9 }]);

  peers.setConnected(hello.peerId, false);
  for (let passedMs = 0; passedMs < limits.peerForgetMs; passedMs += 500) {
    clock.stall(500);
    peers.hear({ ...examplePresence(2), sequence: passedMs }); // or nobody would be heard
    peers.adopt(peers.look());
  }
  expect(peers.sweep()).toEqual([hello.peerId]);
  expect(world.agents()).toEqual([]);
  expect(world.offers()).toEqual(offers);

  peers.admit(hello, ["worker"]); // back, without its GPU
  expect(world.offers()).toMatchObject([{ gpuMemoryBytes: 0 }]);
});
