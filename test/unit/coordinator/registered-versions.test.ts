import { beforeEach, expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { collections } from "../../../coordinator/state.ts";
import { keyIdOf } from "../../../protocol/attestation.ts";
import { verifyRegistration } from "../../../protocol/registration.ts";
import { lineageText } from "../../../scripts/commands/present/lineage-text.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

/** The authority's word on a version, from the end of its job to the agents that load it. */
let bench: CoordinatorBench;
let worker: BenchWorker;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
});

const store = () => openMemoryStore(bench.disk);
const authority = () => keyIdOf(collections.credentials.read(store(), "cluster")!.publicJwk);

async function register(): Promise<void> {
  const spec = exampleSpec({ workers: { min: 1, max: 1, spares: 0 } });
  const { id } = await bench.coordinator.submitJob(spec);
  await trainThrough(worker, id);
}

test("the authority signs what a version is when it is registered, also after a restart; replaying the log gives the same", async () => {
  const before = bench.clock.nowMs();
  await register();
  bench.crash();
  await bench.start();
  const { version, digest, manifest, registration } = bench.coordinator.version("digits", 1);
  const trust = { authority: authority() };
  const verified = await verifyRegistration({ version, digest, manifest }, registration!, trust);
  expect(verified).toMatchObject({ authorities: [authority()], cluster: "lab" });
  expect(verified.registeredAtMs).toBeGreaterThanOrEqual(before);
  expect(manifest.lineage).toMatchObject({ peers: [worker.peerId], generations: 1 });
  expect(replayLog(store())).toEqual(recordedState(store()));
});

test("agents are given it with the placement, and people see it in the lineage", async () => {
  await register();
  await bench.coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 });
  await bench.clock.advance(1_000);
  const { registration } = bench.coordinator.version("digits", 1);
  expect(worker.placements).toMatchObject([{ registration }]);
  const lineage = bench.coordinator.lineage("digits", 1);
  const node = lineage.nodes.find(({ id }) => id === lineage.root);
  expect(node).toMatchObject({ signers: [], authorities: [authority()] });
  expect(lineageText(lineage, "tree")).toContain(`registered by ${authority().slice(-6)}`);
});

test("a version of an earlier release is there without it", async () => {
  await register();
  bench.crash();
  const key = collections.versions.readAll(store());
  const { registration: _, ...record } = key[0]!;
  await store().write([collections.versions.put("digits/000000000001", record)]);
  await bench.start();
  expect(bench.coordinator.version("digits", 1)).not.toHaveProperty("registration");
  expect(bench.coordinator.lineage("digits", 1).nodes).toContainEqual(
    expect.objectContaining({ kind: "version", authorities: [] }),
  );
});
