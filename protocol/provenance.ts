import { canonicalDigest, openEnvelope, type SignatureCheck } from "./attestation.ts";
import { RingfoldError } from "./errors.ts";
import { shortPeer } from "./ids.ts";
import type { JobSpec } from "./job-spec.ts";
import {
  type DatasetStatement,
  datasetPredicateType,
  datasetStatementSchema,
  type Envelope,
  statementType,
  type VersionStatement,
  versionPredicateType,
  versionStatementSchema,
} from "./messages/attestation.ts";
import type { DatasetManifest } from "./messages/dataset.ts";
import type { JobReport } from "./messages/job-report.ts";
import type { ModelDescription, VersionManifest } from "./messages/model.ts";

/** What a version and a data set come from, in the words that agents sign, and whether a manifest is what was signed. */

/** The part of a version's manifest that each rank knows by itself. */
export type Made = Pick<VersionManifest, "name" | "model" | "weights" | "metrics"> & {
  readonly lineage: Pick<
    VersionManifest["lineage"],
    "jobId" | "dataDigest" | "seed" | "steps" | "parameterHash" | "from"
  >;
};

export interface TrainedJob {
  readonly id: string;
  readonly spec: JobSpec;
  readonly dataDigest: string;
  readonly model: ModelDescription;
}

/** What a job has come to. */
export function madeIn(
  { id, spec, dataDigest, model }: TrainedJob,
  result: Pick<Extract<JobReport, { kind: "finished" }>, "point" | "weights" | "weightsBytes" | "evaluation">,
): Made {
  const { point, weights, weightsBytes, evaluation } = result;
  const { classes, confusion } = evaluation;
  return {
    name: spec.name,
    model,
    weights: { digest: weights, bytes: weightsBytes, format: "safetensors" },
    lineage: {
      jobId: id,
      dataDigest,
      seed: spec.seed,
      steps: point.step,
      parameterHash: point.hash,
      ...(spec.from ? { from: spec.from } : {}),
    },
    metrics: {
      accuracy: evaluation.accuracy,
      loss: evaluation.loss,
      further: evaluation.metrics,
      testExamples: evaluation.examples,
      ...(classes ? { classes } : {}),
      ...(confusion ? { confusion } : {}),
    },
  };
}

export function versionStatement(
  { name, model, weights, lineage, metrics }: Made,
  asked: Pick<VersionStatement["predicate"]["job"], "generation" | "configuration">,
): VersionStatement {
  const { jobId, dataDigest, from = null, seed, steps, parameterHash } = lineage;
  const { classes, confusion } = metrics;
  return {
    _type: statementType,
    subject: [{ name, digest: { sha256: weights.digest } }],
    predicateType: versionPredicateType,
    predicate: {
      job: { id: jobId, generation: asked.generation, configuration: asked.configuration },
      data: dataDigest,
      model: canonicalDigest(model),
      ...{ from, seed, steps, parameterHash, weightsBytes: weights.bytes },
      metrics: {
        accuracy: metrics.accuracy,
        loss: metrics.loss,
        further: metrics.further,
        testExamples: metrics.testExamples,
        ...(classes || confusion ? { tables: canonicalDigest({ classes, confusion }) } : {}),
      },
    },
  };
}

/** A configuration as it is named in statements and in lineage. */
export const configurationDigest = (spec: JobSpec): string => canonicalDigest(spec);

/**
 * The configuration is told and not compared: an agent of a newer release knows keys that others do not. The name is not
 * either: a sweep registers its best version under another one.
 * @throws RingfoldError SIGNATURE_INVALID, naming what differs
 */
export function assertSays(statement: VersionStatement, made: Made): void {
  const expected = versionStatement(made, statement.predicate.job);
  const differing = Object.entries(expected.predicate)
    .filter(
      ([key, value]) =>
        canonicalDigest(value) !==
        canonicalDigest(statement.predicate[key as keyof VersionStatement["predicate"]]),
    )
    .map(([key]) => key);
  if (statement.subject[0]?.digest.sha256 !== made.weights.digest) differing.unshift("weights");
  if (differing.length > 0) throw altered(differing);
}

const altered = (differing: readonly string[]): RingfoldError =>
  new RingfoldError("SIGNATURE_INVALID", `what was signed says otherwise about: ${differing.join(", ")}`, {
    differing,
  });

/** Who has signed, and what configuration they were given. */
interface VerifiedVersion {
  readonly signers: readonly string[];
  readonly configuration: string;
}

/**
 * Whether a manifest tells of its weights and what made them as ranks of its job have signed it.
 * @throws RingfoldError SIGNATURE_INVALID
 */
export async function verifyVersion(
  manifest: VersionManifest,
  attestation: Envelope,
  isSignedBy?: SignatureCheck,
): Promise<VerifiedVersion> {
  const { statement, signers } = await openEnvelope(attestation, versionStatementSchema, isSignedBy);
  assertSays(statement, manifest);
  const stranger = signers.find((peerId) => !manifest.lineage.peers.includes(peerId));
  if (stranger !== undefined) {
    const message = `${shortPeer(stranger)} has signed, and was no rank of ${manifest.lineage.jobId}`;
    throw new RingfoldError("SIGNATURE_INVALID", message, { peer: stranger });
  }
  return { signers, configuration: statement.predicate.job.configuration };
}

/** @param digest of the manifest's bytes */
export const datasetStatement = (
  name: string,
  { source, preparation }: DatasetManifest,
  digest: string,
): DatasetStatement => ({
  _type: statementType,
  subject: [{ name, digest: { sha256: digest } }],
  predicateType: datasetPredicateType,
  predicate: { source, pipeline: canonicalDigest(preparation) },
});

/**
 * Whether a data set is what its signers say.
 * @returns who they are
 * @throws RingfoldError SIGNATURE_INVALID
 */
export async function verifyDataset(
  {
    name,
    manifest,
    digest,
  }: { readonly name: string; readonly manifest: DatasetManifest; readonly digest: string },
  attestation: Envelope,
  isSignedBy?: SignatureCheck,
): Promise<readonly string[]> {
  const { statement, signers } = await openEnvelope(attestation, datasetStatementSchema, isSignedBy);
  const expected = datasetStatement(name, manifest, digest);
  if (canonicalDigest(statement) !== canonicalDigest(expected))
    throw altered(["subject, source or pipeline"]);
  return signers;
}
