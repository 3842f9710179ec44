import { beforeEach, describe, expect, test } from "vitest";
import { createAuthority, issueMembership, verifyMembership } from "../../../protocol/credentials.ts";
import { limits } from "../../../protocol/limits.ts";
import { type BenchWorker, CoordinatorBench } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

const hourMs = 3_600_000;
let bench: CoordinatorBench;
let workers: [BenchWorker, BenchWorker, BenchWorker];
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  workers = [await bench.worker(1), await bench.worker(2), await bench.worker(3)];
});

async function pass(seconds: number, heard: readonly BenchWorker[] = workers): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    await bench.clock.advance(1_000);
    for (const worker of heard) await worker.beat();
  }
}

async function train(min: number): Promise<string> {
  const { id } = await bench.coordinator.submitJob(exampleSpec({ workers: { min, max: 3, spares: 0 } }));
  return id;
}

const states = () => bench.coordinator.peers().map(({ state }) => state);
const job = (id: string) => bench.coordinator.job(id);

describe.each([hourMs, -hourMs])("the wall clock is set by %d ms", (byMs) => {
  test("and nobody is taken for dead, or for alive, by that", async () => {
    const id = await train(2);
    for (const worker of workers) await worker.report("ready", { jobId: id });
    await pass(20);
    bench.clock.set(byMs);
    await pass(5);
    expect(states()).toEqual(["alive", "alive", "alive"]);
    expect(job(id)).toMatchObject({ state: "running", generations: [{ generation: 1 }] });
    const [, two, three] = workers;
    await pass(15, [two, three]);
    expect(states()).toEqual(["dead", "alive", "alive"]);
    const seenAgoMs = bench.coordinator.view().nowMs - bench.coordinator.peers()[1]!.lastSeenMs;
    expect(seenAgoMs).toBeLessThanOrEqual(1_000);
  });

  test("while a trainer starts: it has its time, and no more", async () => {
    const id = await train(1);
    await pass(10);
    bench.clock.set(byMs);
    await pass(10);
    expect(workers.flatMap(({ told }) => told)).not.toContain("stop job-1");
    expect(job(id).state).toBe("preparing");
    await pass(limits.prepareTimeoutMs / 1_000);
    expect(workers[0].told).toContain("stop job-1");
  });
});

describe.each([hourMs, -hourMs])("another coordinator takes over, whose clock differs by %d ms", (byMs) => {
  async function takeOver(): Promise<void> {
    bench.crash();
    await bench.coordinator.close();
    bench.clock.set(byMs);
    await bench.start();
    for (const worker of workers) await worker.join();
  }

  test("a ring that broke before is formed anew after its grace", async () => {
    const id = await train(2);
    for (const worker of workers) await worker.report("ready", { jobId: id });
    const point = { step: 5, hash: digestOf("a") };
    const ended = { ...{ jobId: id, generation: 1, point }, cause: "quiesced" } as const;
    const [one, two] = workers;
    await one.report("ended", ended);
    await two.report("ended", ended);
    await takeOver();
    await pass(6);
    expect(job(id).generations.at(-1)).toMatchObject({ generation: 2, startStep: 5 });
    await one.report("resumed", { jobId: id, generation: 2 });
    expect(job(id).generations.at(-1)!.recoveryMs).toBeGreaterThanOrEqual(0);
  });

  test("trainers that were starting have their time", async () => {
    const id = await train(1);
    await takeOver();
    await pass(10);
    expect(workers.flatMap(({ told }) => told)).not.toContain("stop job-1");
    for (const worker of workers) await worker.report("ready", { jobId: id });
    expect(job(id).state).toBe("running");
  });
});

test.each([hourMs, -hourMs])(
  "a certificate of membership is good where the clock differs by %d ms",
  async (byMs) => {
    const authority = await createAuthority("lab");
    const { peerId } = workers[0];
    const certificate = await issueMembership(authority, { peerId, roles: ["worker"] });
    const membership = verifyMembership(authority.publicJwk, certificate, peerId, Date.now() + byMs);
    expect(await membership).toMatchObject({ roles: ["worker"] });
  },
);
