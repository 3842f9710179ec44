import { openEnvelope } from "../protocol/attestation.ts";
import { RingfoldError } from "../protocol/errors.ts";
import { versionStatementSchema } from "../protocol/messages/attestation.ts";
import type { JobReport } from "../protocol/messages/job-report.ts";
import { assertSays, madeIn, type TrainedJob } from "../protocol/provenance.ts";
import type { CoordinatorContext } from "./context.ts";
import type { JobRecord } from "./decide/job-record.ts";

type Finished = Extract<JobReport, { kind: "finished" }>;

/** Of a job whose first worker has said what its data and its model are. */
export const trainedJob = ({ id, spec, dataDigest, model }: JobRecord): TrainedJob | undefined =>
  dataDigest && model ? { id, spec, dataDigest, model } : undefined;

/**
 * A report as it may be acted upon. A result whose signature is not that of the rank that reports it, or that says otherwise
 * than the report, is the word of a trainer that has failed: the result of the others counts. Agents of earlier releases sign
 * nothing, and their versions are shown as unsigned.
 */
export async function vouchedReport(
  from: string,
  report: JobReport,
  job: JobRecord | undefined,
  { isSignedBy, log }: Pick<CoordinatorContext, "isSignedBy" | "log">,
): Promise<JobReport> {
  if (report.kind !== "finished" || !report.attestation) return report;
  try {
    await assertSigned(from, report, job && trainedJob(job), isSignedBy);
    return report;
  } catch (cause) {
    if (!(cause instanceof RingfoldError)) throw cause;
    const { jobId } = report;
    log.warn({ err: cause, jobId, peer: from }, "A result is not signed as it should be, and is refused");
    return { kind: "failed", jobId, code: cause.code, message: cause.message, fatal: false };
  }
}

async function assertSigned(
  from: string,
  { attestation, ...result }: Finished,
  job: TrainedJob | undefined,
  isSignedBy: CoordinatorContext["isSignedBy"],
): Promise<void> {
  const { statement, signers } = await openEnvelope(attestation!, versionStatementSchema, isSignedBy);
  if (signers.length !== 1 || signers[0] !== from)
    throw new RingfoldError("SIGNATURE_INVALID", "the result is signed by another peer than its reporter");
  if (!job) throw new RingfoldError("SIGNATURE_INVALID", "a job that nobody was ready for has no result");
  assertSays(statement, madeIn(job, result));
}
