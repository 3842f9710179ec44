import { beforeAll, expect, test } from "vitest";
import { attest, type Signer } from "../../../protocol/attestation.ts";
import type { Envelope } from "../../../protocol/messages/attestation.ts";
import type { VersionManifest } from "../../../protocol/messages/model.ts";
import { verifyVersion, versionStatement } from "../../../protocol/provenance.ts";
import { identity } from "../../fixtures/identities.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { manifestOf } from "../../fixtures/serving.ts";

const asked = { generation: 1, configuration: digestOf("c") };
let signer: Signer;
let manifest: VersionManifest;
let attestation: Envelope;

beforeAll(async () => {
  signer = await identity(1);
  const plain = manifestOf([4, 2]);
  manifest = { ...plain, lineage: { ...plain.lineage, peers: [signer.peerId] } };
  attestation = await attest(versionStatement(manifest, asked), signer);
});

test("a version that a rank of its job has signed is what it says", async () => {
  expect(await verifyVersion(manifest, attestation)).toEqual({
    signers: [signer.peerId],
    configuration: asked.configuration,
  });
  // A sweep registers its best under a name of its own.
  await expect(verifyVersion({ ...manifest, name: "best" }, attestation)).resolves.toBeDefined();
});

test("whatever of it was altered is named", async () => {
  const { lineage, metrics, model, weights } = manifest;
  const altered: Record<string, VersionManifest> = {
    weights: { ...manifest, weights: { ...weights, digest: digestOf("9") } },
    weightsBytes: { ...manifest, weights: { ...weights, bytes: 9 } },
    model: { ...manifest, model: { ...model, topology: { more: true } } },
    metrics: { ...manifest, metrics: { ...metrics, accuracy: 0.999 } },
    data: { ...manifest, lineage: { ...lineage, dataDigest: digestOf("9") } },
    seed: { ...manifest, lineage: { ...lineage, seed: 9 } },
    steps: { ...manifest, lineage: { ...lineage, steps: 9 } },
    parameterHash: { ...manifest, lineage: { ...lineage, parameterHash: digestOf("9") } },
    from: { ...manifest, lineage: { ...lineage, from: "digits@9" } },
    job: { ...manifest, lineage: { ...lineage, jobId: "job-9" } },
  };
  for (const [part, changed] of Object.entries(altered))
    await expect(verifyVersion(changed, attestation), part).rejects.toThrowError(
      expect.objectContaining({ code: "SIGNATURE_INVALID", data: { differing: [part] } }),
    );
});

test("tables of classes are signed with the rest, and a version without them is signed as it was", async () => {
  const { metrics } = manifest;
  expect(versionStatement(manifest, asked).predicate.metrics).not.toHaveProperty("tables");
  const confusion = [[3, 1], [0, 4]]; // biome-ignore format: a class each
  const classes = [0.75, 1].map((recall) => ({ support: 4, precision: 0.8, recall, f1: 0.8 }));
  const full = { ...manifest, metrics: { ...metrics, confusion, classes } };
  const signed = await attest(versionStatement(full, asked), signer);
  await expect(verifyVersion(full, signed)).resolves.toBeDefined();
  const { confusion: _, ...rest } = full.metrics;
  for (const altered of [metrics, rest, { ...full.metrics, confusion: [[4, 0], [0, 4]] }]) // biome-ignore format: a class each
    await expect(verifyVersion({ ...full, metrics: altered }, signed)).rejects.toThrowError(
      expect.objectContaining({ data: { differing: ["metrics"] } }),
    );
});

test("the good signature of a peer that was no rank of the job is none", async () => {
  const stranger = await identity(2);
  const signed = await attest(versionStatement(manifest, asked), stranger);
  await expect(verifyVersion(manifest, signed)).rejects.toThrowError(
    expect.objectContaining({ code: "SIGNATURE_INVALID", data: { peer: stranger.peerId } }),
  );
});
