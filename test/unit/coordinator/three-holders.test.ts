import { expect, test } from "vitest";
import { type HoldRequest, holdArtefacts } from "../../../protocol/messages/artefact.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

/** K = 3: whichever two machines die at once, every version is still there, and soon held by three again. */

const weights = ["a", "b", "c", "d"].map(digestOf);
const machines = [0, 1, 2, 3, 4, 5];
const pairs = machines.flatMap((one) => machines.slice(one + 1).map((other) => [one, other] as const));

/** Agents that fetch what they are told to hold, where one that is there has it. */
class Lab {
  readonly bench = new CoordinatorBench({ replicaCount: 3 });
  readonly #live = new Set<BenchWorker>();
  readonly #told = new Map<BenchWorker, HoldRequest>();
  readonly workers: BenchWorker[] = [];

  async open(): Promise<this> {
    await this.bench.start();
    for (const machine of machines) {
      const worker = await this.bench.worker(machine + 1);
      worker.network.handle(holdArtefacts, async (request) => {
        this.#told.set(worker, request);
        return { ok: true };
      });
      this.workers.push(worker);
      this.#live.add(worker);
    }
    return this;
  }

  /** A version that the one who has trained it holds, and nobody else yet. */
  async train(digest: string): Promise<void> {
    const { id } = await this.bench.coordinator.submitJob(
      exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }),
    );
    const trainer = this.workers.find(({ told }) => told.includes(`prepare ${id}`))!;
    await trainThrough(trainer, id, digest);
    trainer.hold(...trainer.held, digest);
    await trainer.beat();
  }

  kill(machine: number): void {
    const worker = this.workers[machine]!;
    worker.crash();
    this.#live.delete(worker);
  }

  /** Until nobody fetches anything any more. */
  async settle(): Promise<void> {
    for (let fetched = true; fetched; ) {
      await this.bench.clock.advance(1_000);
      fetched = false;
      for (const [worker, { weights: asked }] of this.#told) {
        const there = [...this.#live].flatMap(({ held }) => [...held]);
        const got = asked.hold.filter((digest) => !worker.held.has(digest) && there.includes(digest));
        if (!this.#live.has(worker) || got.length === 0) continue;
        worker.hold(...worker.held, ...got);
        fetched = true;
      }
      for (const worker of this.#live) await worker.beat();
    }
  }

  /** By version. */
  get holders(): number[] {
    return this.bench.coordinator.versions().map(({ holders }) => holders.length);
  }
}

test.each(pairs)("machines %i and %i die", async (one, other) => {
  const lab = await new Lab().open();
  for (const digest of weights) await lab.train(digest);
  expect(lab.holders).toEqual([1, 1, 1, 1]);
  await lab.settle();
  expect(lab.holders).toEqual([3, 3, 3, 3]);
  lab.kill(one);
  lab.kill(other);
  await lab.bench.settle();
  for (const count of lab.holders) expect(count).toBeGreaterThanOrEqual(1);
  await lab.settle();
  expect(lab.holders).toEqual([3, 3, 3, 3]);
  expect(lab.bench.coordinator.versions().map(({ replicasWanted }) => replicasWanted)).toEqual([3, 3, 3, 3]);
});

test("machines die one after the other: with fewer than three it is shown how many holders are lacking", async () => {
  const lab = await new Lab().open();
  await lab.train(weights[0]!);
  await lab.settle();
  for (const machine of [0, 1, 2, 3]) {
    lab.kill(machine);
    await lab.settle();
  }
  expect(lab.bench.coordinator.versions()).toMatchObject([{ replicasWanted: 3 }]);
  expect(lab.holders).toEqual([2]);
});
