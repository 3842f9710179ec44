import { beforeEach, expect, test } from "vitest";
import { verifyVersion } from "../../../protocol/provenance.ts";
import {
  type BenchWorker,
  CoordinatorBench,
  signedResult,
  trainThrough,
} from "../../fixtures/coordinator-bench.ts";
import { identity } from "../../fixtures/identities.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

let bench: CoordinatorBench;
let one: BenchWorker;
let two: BenchWorker;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  [one, two] = [await bench.worker(1, await identity(1)), await bench.worker(2, await identity(2))];
});

const weights = digestOf("f");
const about = { jobId: "job-1", generation: 1, weights };

/** A job of both, at the point where its ranks have trained all steps. */
async function trained() {
  const { spec } = await bench.coordinator.submitJob(exampleSpec({ workers: { min: 2, max: 2, spares: 0 } }));
  for (const worker of [one, two]) await worker.report("ready", { jobId: "job-1" });
  return spec;
}

test("all ranks sign the same statement, and their version bears every signature, also after a restart", async () => {
  const spec = await trained();
  for (const worker of [one, two]) await worker.report("finished", await signedResult(worker, spec, about));
  const signers = [one.peerId, two.peerId];
  expect(bench.coordinator.versions()).toMatchObject([{ name: "digits", version: 1, signers }]);
  bench.crash();
  const { manifest, attestation } = (await bench.start()).version("digits", 1);
  expect((await verifyVersion(manifest, attestation!)).signers).toEqual(signers);
});

test("a result that another has signed is refused; the other rank's counts", async () => {
  const spec = await trained();
  const honest = await signedResult(two, spec, about);
  await one.report("finished", { ...about, attestation: honest.attestation! });
  expect(bench.coordinator.versions()).toEqual([]);
  await two.report("finished", honest);
  expect(bench.coordinator.versions()).toMatchObject([{ signers: [two.peerId] }]);
});

test("accuracy that was made better on the way is refused", async () => {
  const spec = await trained();
  const honest = await signedResult(two, spec, about);
  const evaluation = { ...honest.evaluation, accuracy: 0.999 };
  await two.report("finished", { ...honest, evaluation });
  await one.report("finished", await signedResult(one, spec, about));
  expect(bench.coordinator.versions()).toMatchObject([{ accuracy: 0.9, signers: [one.peerId] }]);
});

test("an agent of an earlier release signs nothing; its version is there, unsigned", async () => {
  const old = await bench.worker(3);
  one.crash();
  two.crash();
  const { id } = await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await trainThrough(old, id);
  expect(bench.coordinator.versions()).toMatchObject([{ version: 1, signers: [] }]);
  expect(bench.coordinator.version("digits", 1).attestation).toBeUndefined();
});
