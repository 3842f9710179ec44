import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { attest, type Signer } from "../../../protocol/attestation.ts";
import { datasetStatement } from "../../../protocol/provenance.ts";
import { CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { identity } from "../../fixtures/identities.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { type Prepared, prepareSource, sha256 } from "../../fixtures/prepared-data.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

let bench: CoordinatorBench;
let member: Signer;
let prepared: Prepared;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  member = await identity(1);
  await bench.worker(1, member);
  const path = join(temporaryFolder(), "notes.txt");
  writeFileSync(path, "a ring of machines learns together. ".repeat(200));
  prepared = await prepareSource(path, { kind: "text" });
});

const about = () => ({ name: "notes", manifest: prepared.manifest, digest: sha256(prepared.bytes) });

async function add(signer: Signer, signed = about()) {
  const attestation = await attest(datasetStatement(signed.name, signed.manifest, signed.digest), signer);
  return bench.coordinator.addDataset({ ...about(), addedBy: "somebody on a machine", attestation });
}

test("a data set that a member has signed says so, also after a restart, and lineage leads to it", async () => {
  expect((await add(member)).signers).toEqual([member.peerId]);
  bench.crash();
  const coordinator = await bench.start();
  expect(coordinator.datasets()).toMatchObject([{ name: "notes", version: 1, signers: [member.peerId] }]);
  const worker = await bench.worker(2);
  const data = { source: "dataset", name: "notes" } as const;
  const workers = { min: 1, max: 1, spares: 0 };
  const { id } = await coordinator.submitJob(exampleSpec({ data, workers }));
  await worker.report("ready", { jobId: id, dataDigest: about().digest });
  await trainThrough(worker, id);
  const { nodes } = coordinator.lineage("digits", 1);
  expect(nodes.map(({ kind }) => kind)).toEqual(["version", "job", "dataset", "pipeline", "data", "config"]);
  expect(nodes.find(({ kind }) => kind === "dataset")).toMatchObject({
    name: "notes@1",
    signers: [member.peerId],
  });
});

test("one that a stranger has signed is refused, and one of which a member has signed something else", async () => {
  const refused = expect.objectContaining({ code: "SIGNATURE_INVALID" });
  await expect(add(await identity(9))).rejects.toThrowError(refused);
  const { source } = prepared.manifest;
  const manifest = { ...prepared.manifest, source: { ...source, digest: "0".repeat(64) } };
  await expect(add(member, { ...about(), manifest })).rejects.toThrowError(refused);
  expect(bench.coordinator.datasets()).toEqual([]);
});
