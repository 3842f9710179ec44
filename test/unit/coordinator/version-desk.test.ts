import { beforeEach, expect, test } from "vitest";
import { type HoldRequest, holdArtefacts } from "../../../protocol/messages/artefact.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

const weights = digestOf("f");
let bench: CoordinatorBench;
let workers: BenchWorker[];
/** The last instruction, by worker. */
let told: Map<BenchWorker, HoldRequest>;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  workers = [await bench.worker(1), await bench.worker(2), await bench.worker(3)];
  told = new Map();
  for (const worker of workers) {
    worker.network.handle(holdArtefacts, async (request) => {
      told.set(worker, request);
      return { ok: true };
    });
  }
});

/** Registers one more version of `digits`. */
async function register(): Promise<void> {
  const { id } = await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await trainThrough(workers[0]!, id);
}

const asked = () => workers.filter((worker) => told.get(worker)?.weights.hold.includes(weights));
const code = (expected: string) => expect.objectContaining({ code: expected });

test("an alias is durable before it is told, and one of two who move it from the same place loses", async () => {
  await register();
  await register();
  const { coordinator } = bench;
  await coordinator.moveAlias("digits", "champion", { version: 1, from: null });
  const both = [1, 2].map(() => coordinator.moveAlias("digits", "champion", { version: 2, from: 1 }));
  const outcomes = await Promise.allSettled(both);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  bench.crash();
  const next = await bench.start();
  expect(next.version("digits", "champion")).toMatchObject({ version: 2, aliases: ["champion"] });
  expect(() => next.version("digits", "canary")).toThrowError(code("NOT_FOUND"));
});

test("an alias is removed by who has seen where it points", async () => {
  await register();
  await register();
  const { coordinator } = bench;
  await coordinator.moveAlias("digits", "champion", { version: 2 });
  await expect(coordinator.removeAlias("digits", "champion", 1)).rejects.toThrowError(code("CONFLICT"));
  expect(coordinator.version("digits", "champion").version).toBe(2);
  await coordinator.removeAlias("digits", "champion", 2);
  await expect(coordinator.removeAlias("digits", "champion", 2)).rejects.toThrowError(code("NOT_FOUND"));
});

test("a job that begins with an alias begins with what it points to, wherever that moves", async () => {
  await register();
  await bench.coordinator.moveAlias("digits", "champion", { version: 1 });
  const job = await bench.coordinator.submitJob(exampleSpec({ from: "digits@champion" }));
  expect(job.spec.from).toBe("digits@1");
  await expect(bench.coordinator.removeVersion("digits", 1)).rejects.toThrowError(
    /stays: .*(begins with it|points to it)/,
  );
});

test("retention keeps what an alias points to; a removed number is not given again", async () => {
  for (let i = 0; i < 3; i++) await register();
  const { coordinator } = bench;
  await coordinator.moveAlias("digits", "champion", { version: 1 });
  expect(await coordinator.pruneVersions("digits", { keepLast: 1, dryRun: true })).toEqual({
    removed: [2],
    kept: [{ version: 1, reason: "champion points to it" }],
  });
  expect(coordinator.versions().map(({ version }) => version)).toEqual([1, 2, 3]);
  await coordinator.pruneVersions("digits", { keepLast: 1, dryRun: false });
  await coordinator.removeAlias("digits", "champion");
  await coordinator.removeVersion("digits", 1);
  await coordinator.removeVersion("digits", 3);
  await register();
  expect(coordinator.versions().map(({ version }) => version)).toEqual([4]);
  expect(() => coordinator.version("digits", 2)).toThrowError(/digits@2 was removed/);
});

test("weights that one agent holds go to another one, and again after a loss", async () => {
  const [one, two, three] = workers as [BenchWorker, BenchWorker, BenchWorker];
  await register();
  one.hold(weights);
  await one.beat();
  await bench.clock.advance(1_000);
  expect(asked()).toHaveLength(1);
  const second = asked()[0]!;
  second.hold(weights);
  await second.beat();
  told.clear();
  await bench.clock.advance(1_000);
  expect(asked()).toEqual([]);
  second.crash();
  await bench.clock.advance(1_000);
  expect(asked()).toEqual([second === two ? three : two]);
});

test("what was removed may go where it is held, unless another version has the same weights", async () => {
  await register();
  await register();
  const [one] = workers as [BenchWorker];
  one.hold(weights);
  await one.beat();
  await bench.coordinator.removeVersion("digits", 1);
  await bench.clock.advance(1_000);
  expect(told.get(one)?.weights.forget ?? []).toEqual([]);
  await bench.coordinator.removeVersion("digits", 2);
  await bench.clock.advance(1_000);
  expect(told.get(one)?.weights).toEqual({ hold: [], forget: [weights] });
});

test("ten thousand artefacts of one agent are known after one request, and each change after that with its beat", async () => {
  const [one, two] = workers as [BenchWorker, BenchWorker];
  await register();
  const many = Array.from({ length: 10_000 }, (_, i) => i.toString(16).padStart(64, "0"));
  one.hold(...many, weights); // stands behind all the others
  two.hold(weights);
  for (const worker of [one, two]) await worker.beat();
  await bench.clock.advance(1_000);
  const holders = () => new Set(bench.coordinator.version("digits", 1).holders);
  expect(holders()).toEqual(new Set([one.peerId, two.peerId]));
  expect(asked()).toEqual([]);
  expect([one.listsGiven, two.listsGiven]).toEqual([2, 0]); // two pages
  one.hold(...many);
  await one.beat();
  await bench.clock.advance(1_000);
  expect(holders()).toEqual(new Set([two.peerId]));
  expect(asked()).toHaveLength(1);
  expect(one.listsGiven).toBe(2);
});
