import type { DatasetDesk } from "./dataset-desk.ts";
import { isOver } from "./decide/job-record.ts";
import { isSweepOver } from "./decide/sweep-record.ts";
import type { DocumentReferences } from "./document-desk.ts";
import type { JobDesk } from "./job-desk.ts";
import type { SweepDesk } from "./sweep-desk.ts";
import type { VersionRegistry } from "./version-registry.ts";

interface DocumentUsers {
  readonly datasets: Pick<DatasetDesk, "views">;
  readonly jobs: Pick<JobDesk, "records" | "find">;
  readonly sweeps: Pick<SweepDesk, "records">;
  readonly versions: Pick<VersionRegistry, "present">;
}

/**
 * What refers to pipelines and configurations: data sets and versions that came of them, jobs and sweeps that are not over.
 * Cost: one look at each of all these.
 */
export function documentReferences({ datasets, jobs, sweeps, versions }: DocumentUsers): DocumentReferences {
  const references = new Map<string, string>();
  const note = (kind: "pipeline" | "config", reference: string | null | undefined, why: string) => {
    if (reference) references.set(`${kind} ${reference}`, why);
  };
  for (const { name, version, pipeline } of datasets.views())
    note("pipeline", pipeline, `data set ${name}@${version} was prepared by it`);
  for (const { manifest, version } of versions.present())
    note("config", jobs.find(manifest.lineage.jobId)?.config, `${manifest.name}@${version} came of it`);
  for (const job of jobs.records()) if (!isOver(job)) note("config", job.config, `${job.id} goes by it`);
  for (const sweep of sweeps.records())
    if (!isSweepOver(sweep)) note("config", sweep.config, `${sweep.id} goes by it`);
  return references;
}
