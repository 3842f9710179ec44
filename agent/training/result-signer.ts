import { attest, type Signer } from "../../protocol/attestation.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import { modelDescriptionSchema } from "../../protocol/messages/model.ts";
import { configurationDigest, madeIn, versionStatement } from "../../protocol/provenance.ts";

type ReportOf<Kind extends JobReport["kind"]> = Extract<JobReport, { kind: Kind }>;

/**
 * Signs what a trainer of this agent has come to, with the agent's identity: the trainer is a process of its own and does not have
 * that key. What it trains on it has said when it was ready.
 */
export class ResultSigner {
  readonly #spec: JobSpec;
  readonly #signer: Signer;
  #ready: ReportOf<"ready"> | undefined;

  constructor(spec: JobSpec, signer: Signer) {
    this.#spec = spec;
    this.#signer = signer;
  }

  hear(ready: ReportOf<"ready">): void {
    this.#ready = ready;
  }

  /** The report with a signature; as it came from a trainer that was never ready, whose result nobody takes. */
  async signed(report: ReportOf<"finished">): Promise<ReportOf<"finished">> {
    if (!this.#ready) return report;
    const { dataDigest, model } = this.#ready;
    const job = {
      ...{ id: report.jobId, spec: this.#spec, dataDigest },
      model: modelDescriptionSchema.parse(model), // as the coordinator will read it
    };
    const asked = { generation: report.generation, configuration: configurationDigest(this.#spec) };
    return {
      ...report,
      attestation: await attest(versionStatement(madeIn(job, report), asked), this.#signer),
    };
  }
}
