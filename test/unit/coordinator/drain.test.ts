import { beforeEach, expect, test } from "vitest";
import { holdArtefacts } from "../../../protocol/messages/artefact.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

let bench: CoordinatorBench;
let workers: BenchWorker[];
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  workers = [await bench.worker(1), await bench.worker(2), await bench.worker(3)];
});

const job = (min: number, max: number) =>
  bench.coordinator.submitJob(exampleSpec({ workers: { min, max, spares: 0 } }));
const stateOf = ({ peerId }: BenchWorker) =>
  bench.coordinator.peers().find((peer) => peer.peerId === peerId)!.state;

test("a drained machine is given nothing, and the log says who has drained it and why", async () => {
  const [one] = workers as [BenchWorker];
  const { released, peer } = await bench.coordinator.drainPeer(one.peerId, true, "new fans");
  expect({ released, state: peer.state }).toEqual({ released: true, state: "draining" });
  await job(1, 3);
  expect(one.told).toEqual([]);
  expect(bench.coordinator.audit({ after: 0, limit: 100 }).entries).toContainEqual(
    expect.objectContaining({
      who: { kind: "operator" },
      subject: "worker-1",
      event: { kind: "member-drained", detail: "new fans" },
      reason: "out of service: new fans",
    }),
  );
});

test("its job goes on without it, and it is released when that does not need it any more", async () => {
  const { id } = await job(2, 3);
  for (const worker of workers) await worker.report("ready", { jobId: id });
  const [one, two, three] = workers as [BenchWorker, BenchWorker, BenchWorker];
  expect((await bench.coordinator.drainPeer(one.peerId, true, "")).released).toBe(false);
  await bench.settle();
  expect(one.told).toContain("quiesce 1");
  const ended = { jobId: id, generation: 1, cause: "quiesced", suspect: null, detail: "" } as const;
  for (const worker of workers) await worker.report("ended", ended);
  expect(three.plan?.ranks.map(({ peerId }) => peerId)).toEqual([two.peerId, three.peerId]);
  expect((await bench.coordinator.drainPeer(one.peerId, true, "")).released).toBe(true);
});

test("it holds through the next life of the agent and of the coordinator, until it is put back", async () => {
  const [one] = workers as [BenchWorker];
  await bench.coordinator.drainPeer(one.peerId, true, "");
  bench.crash();
  await bench.start();
  await one.beginAnew();
  expect(stateOf(one)).toBe("draining");
  await bench.coordinator.drainPeer(one.peerId, false, "");
  expect(stateOf(one)).toBe("alive");
  await job(1, 3);
  expect(one.told).not.toEqual([]);
});

test("a member that is away is listed, and put back before it returns", async () => {
  const [one, two, three] = workers as [BenchWorker, BenchWorker, BenchWorker];
  await bench.coordinator.drainPeer(one.peerId, true, "new fans");
  one.crash();
  for (let second = 0; second < 130; second++) {
    await bench.clock.advance(1_000);
    for (const worker of [two, three]) await worker.beat();
  }
  expect(bench.coordinator.peers().map(({ name, state }) => ({ name, state }))).toEqual([
    { name: "worker-2", state: "alive" },
    { name: "worker-3", state: "alive" },
    { name: "worker-1", state: "away" },
  ]);
  bench.crash();
  await bench.start();
  expect(bench.coordinator.peers().map(({ state }) => state)).toEqual(["away", "away", "away"]);
  const { peer } = await bench.coordinator.drainPeer(one.peerId, false, "");
  expect(peer).toMatchObject({ name: "worker-1", state: "away", capabilities: { engine: "cpu" } });
  const again = await bench.worker(1);
  expect(stateOf(again)).toBe("alive");
});

test("who is removed is not listed, not heard, and not let in again, through a restart", async () => {
  const [one] = workers as [BenchWorker];
  await bench.coordinator.removePeer(one.peerId, "sold");
  const names = () => bench.coordinator.peers().map(({ name }) => name);
  expect(names()).toEqual(["worker-2", "worker-3"]);
  await one.beat();
  await job(1, 3);
  expect(one.told).toEqual([]);
  await expect(one.beginAnew()).rejects.toMatchObject({ code: "MEMBER_REMOVED" });
  bench.crash();
  await bench.start();
  await expect(one.join()).rejects.toMatchObject({ code: "MEMBER_REMOVED" });
  expect(names()).not.toContain("worker-1");
  await expect(bench.coordinator.removePeer(one.peerId, "")).rejects.toMatchObject({ code: "NOT_FOUND" });
  const { entries } = bench.coordinator.audit({ after: 0, limit: 100 });
  expect(entries).toContainEqual(
    expect.objectContaining({
      who: { kind: "operator" },
      subject: "worker-1",
      event: { kind: "member-removed", detail: "sold" },
      reason: "removed: sold",
    }),
  );
});

test("who is needed is not removed", async () => {
  await job(1, 1);
  const busy = workers.find(({ told }) => told.length > 0)!;
  await expect(bench.coordinator.removePeer(busy.peerId, "")).rejects.toMatchObject({
    code: "CONFLICT",
    data: { remedy: expect.stringContaining("ringfold peers drain worker-") },
  });
});

test("draining twice is one decision; who is not there is not found", async () => {
  const [one] = workers as [BenchWorker];
  await bench.coordinator.drainPeer(one.peerId, true, "");
  const { last } = bench.coordinator.audit({ after: 0, limit: 1 });
  await bench.coordinator.drainPeer(one.peerId, true, "again");
  expect(bench.coordinator.audit({ after: 0, limit: 1 }).last).toBe(last);
  const stranger = one.peerId.replace(/1$/, "9");
  await expect(bench.coordinator.drainPeer(stranger, true, "")).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("what only a drained machine holds is copied first, and then it is released", async () => {
  const [one, two, three] = workers as [BenchWorker, BenchWorker, BenchWorker];
  const { id } = await job(1, 1);
  await trainThrough(workers.find((worker) => worker.told.length > 0)!, id);
  const weights = digestOf("f");
  const asked = new Set<BenchWorker>();
  for (const worker of workers)
    worker.network.handle(holdArtefacts, async (request) => {
      if (request.weights.hold.includes(weights)) asked.add(worker);
      return { ok: true };
    });
  one.hold(weights);
  await one.beat();
  expect((await bench.coordinator.drainPeer(one.peerId, true, "")).released).toBe(false);
  await bench.clock.advance(1_000);
  expect(asked).toEqual(new Set([two, three]));
  two.hold(weights);
  await two.beat();
  expect((await bench.coordinator.drainPeer(one.peerId, true, "")).released).toBe(true);
});
