import type { EngineName, JobSpec } from "../../protocol/job-spec.ts";
import type { JobFailure } from "../../protocol/messages/api.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";

/** Between an agent and its trainer process, over Node's IPC channel. Both are this release, so nothing is versioned. */

export interface TrainerSetup {
  readonly jobId: string;
  readonly spec: JobSpec;
  readonly peerId: string;
  /** libp2p certificate for the data plane; the identity key itself stays with the agent. */
  readonly certificate: { readonly cert: string; readonly key: string };
  /** Where the data plane listens, and the address of it that peers dial. */
  readonly listenHost: string;
  readonly host: string;
  /** The agent's own choice; a job that names an engine overrides it. */
  readonly engine: EngineName;
  readonly artefactPath: string;
  /** Where the owner allows scripts: the Python that runs them, and where they and their logs are kept. */
  readonly torch?: { readonly python: string; readonly folder: string };
  /** A checkpoint, in the artefact store, from which it goes on unless its own is as far. */
  readonly state?: { readonly digest: string; readonly step: number };
  /** Epochs at which it pauses by itself. */
  readonly bound?: number;
  /** Weights that the job begins with, in the artefact store. */
  readonly base?: string;
  /** Which part of the model is trained here, of a job with stages. */
  readonly stage?: number;
  /** What a trainer may use of this machine's memory, where its owner says so. */
  readonly memoryLimitBytes?: number;
  /** Of the largest GPU here with memory of its own, where its driver tells. */
  readonly gpuMemoryBytes?: number;
  readonly logLevel: string;
}

export type ToTrainer =
  | { readonly kind: "setup"; readonly setup: TrainerSetup }
  | { readonly kind: "start"; readonly plan: GenerationPlan }
  | { readonly kind: "quiesce"; readonly generation: number; readonly checkpoint: boolean }
  /** Says `ready` again if it is idle: the coordinator may have lost sight of this agent for a moment. */
  | { readonly kind: "announce"; readonly newest?: number }
  | { readonly kind: "stop" };

export interface FromTrainer {
  readonly kind: "report";
  readonly report: JobReport;
}

/** A trainer asks its agent, which knows the peers, to bring a part of a data set into the store that both share. */
export interface FetchRequest {
  readonly kind: "fetch";
  readonly request: number;
  readonly manifest: string;
  readonly digest: string;
}

/** It is on the disk now, or here is why it is not. */
export interface FetchAnswer {
  readonly kind: "fetched";
  readonly request: number;
  readonly failure?: JobFailure;
}
