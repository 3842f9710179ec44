import { expect, test } from "vitest";
import { JobWorld } from "../../../coordinator/job-world.ts";
import { PeerTable } from "../../../coordinator/peers.ts";
import { limits } from "../../../protocol/limits.ts";
import { exampleHello, examplePresence } from "../../fixtures/messages.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

test("what an agent has is known of workers alone, and stays known when it is away", () => {
  const clock = new FakeClock();
  const peers = new PeerTable(clock);
  const world = new JobWorld({ peers }, () => new Set());
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
