import { canonicalDigest } from "../protocol/attestation.ts";
import { RingfoldError } from "../protocol/errors.ts";
import type { DeploymentView } from "../protocol/messages/api.ts";
import type { DocumentKind } from "../protocol/messages/document.ts";
import type { Lineage, LineageEdge, LineageNode } from "../protocol/messages/lineage.ts";
import type { Preparation } from "../protocol/preparation.ts";
import { configurationDigest } from "../protocol/provenance.ts";
import type { DatasetRecord } from "./decide/dataset.ts";
import type { DocumentEntry } from "./decide/document.ts";
import type { JobRecord } from "./decide/job-record.ts";
import type { VersionRecord } from "./decide/version.ts";
import type { VersionRegistry } from "./version-registry.ts";

export interface LineageSources {
  readonly versions: Pick<VersionRegistry, "everything" | "find">;
  readonly job: (jobId: string) => JobRecord | undefined;
  readonly document: (kind: DocumentKind, reference: string) => DocumentEntry | undefined;
  readonly dataset: (digest: string) => DatasetRecord | undefined;
  readonly deployments: readonly DeploymentView[];
}

/** Generations of fine-tuning that are followed up, and versions shown that began with the one asked for. */
const ancestorsMax = 100;
const descendantsMax = 200;

/**
 * Data, pipeline, configuration, sweep and job that a version comes from; the versions that it began with, with theirs; the versions that began
 * with it; the deployments by which it is or was served. What was removed is still told of.
 * Cost: one look at each version for the descendants.
 */
export function traceLineage(version: VersionRecord, sources: LineageSources): Lineage {
  const graph = new Graph();
  const root = addVersion(graph, version, sources);
  addAncestors(graph, version, sources);
  for (const each of sources.versions.everything()) {
    if (each.manifest.lineage.from !== referenceOf(version)) continue;
    if (graph.count("version") > ancestorsMax + descendantsMax) break;
    addVersion(graph, each, sources);
    graph.connect(root, jobId(each), "began");
  }
  addDeployments(graph, version, sources);
  return { root, ...graph.written() };
}

class Graph {
  readonly #nodes = new Map<string, LineageNode>();
  readonly #edges = new Map<string, LineageEdge>();

  has(id: string): boolean {
    return this.#nodes.has(id);
  }

  count(kind: LineageNode["kind"]): number {
    return [...this.#nodes.values()].filter((node) => node.kind === kind).length;
  }

  /** Once, however often it is met. */
  add(node: LineageNode): string {
    if (!this.#nodes.has(node.id)) this.#nodes.set(node.id, node);
    return node.id;
  }

  connect(from: string, to: string, relation: LineageEdge["relation"]): void {
    this.#edges.set(`${from} ${to}`, { from, to, relation });
  }

  written(): Pick<Lineage, "nodes" | "edges"> {
    return { nodes: [...this.#nodes.values()], edges: [...this.#edges.values()] };
  }
}

const referenceOf = ({ manifest, version }: VersionRecord): string => `${manifest.name}@${version}`;
const jobId = ({ manifest }: VersionRecord): string => `job:${manifest.lineage.jobId}`;

/** With the job that made it, and what that was trained on. */
function addVersion(graph: Graph, record: VersionRecord, sources: LineageSources): string {
  const { manifest, digest, attestation, registration, removedAtMs } = record;
  const { accuracy, loss } = manifest.metrics;
  const quality =
    accuracy === null ? `loss ${loss.toPrecision(4)}` : `accuracy ${(100 * accuracy).toFixed(2)}%`;
  const id = graph.add({
    ...{ id: `version:${referenceOf(record)}`, kind: "version", name: referenceOf(record), digest },
    detail: removedAtMs === null ? quality : `${quality}, removed`,
    atMs: manifest.createdAtMs,
    signers: attestation?.signatures.map(({ keyid }) => keyid) ?? [],
    authorities: registration?.signatures.map(({ keyid }) => keyid) ?? [],
  });
  addJob(graph, record, sources);
  graph.connect(jobId(record), id, "made");
  return id;
}

function addJob(graph: Graph, record: VersionRecord, sources: LineageSources): void {
  const { lineage } = record.manifest;
  const job = sources.job(lineage.jobId);
  const id = jobId(record);
  if (graph.has(id)) return;
  graph.add({
    ...{ id, kind: "job", name: lineage.jobId, digest: job ? configurationDigest(job.spec) : null },
    detail: `${job ? `${job.spec.name}, ${job.state}` : "not known any more"}, ${lineage.steps} steps`,
    atMs: job?.submittedAtMs ?? null,
    signers: [],
  });
  graph.connect(addData(graph, lineage.dataDigest, job, sources), id, "trained");
  const config = { kind: "config", reference: job?.config } as const;
  const configured = job?.trial ? `sweep:${job.trial.sweep}` : id;
  addDocument(graph, config, { id: configured, relation: "configured" }, sources);
  if (!job?.trial) return;
  const { sweep, number } = job.trial;
  graph.add({
    ...{ id: `sweep:${sweep}`, kind: "sweep", name: sweep, digest: null, detail: `trial ${number}` },
    ...{ atMs: null, signers: [] },
  });
  graph.connect(`sweep:${sweep}`, id, "tried");
}

/** A registered pipeline or configuration, above what goes by it. @returns whether there is one */
function addDocument(
  graph: Graph,
  { kind, reference }: { readonly kind: DocumentKind; readonly reference: string | null | undefined },
  below: { readonly id: string; readonly relation: LineageEdge["relation"] },
  sources: LineageSources,
): boolean {
  const document = reference ? sources.document(kind, reference) : undefined;
  if (!document) return false;
  const { digest, addedBy, createdAtMs, removedAtMs } = document;
  const id = graph.add({
    ...{ id: `${kind}:${reference}`, kind, name: `${kind} ${reference}`, digest, atMs: createdAtMs },
    detail: `added by ${addedBy}${removedAtMs === null ? "" : ", removed"}`,
    signers: [],
  });
  graph.connect(id, below.id, below.relation);
  return true;
}

/** A registered data set with its pipeline, or the source that the job names. @returns its id */
function addData(graph: Graph, digest: string, job: JobRecord | undefined, sources: LineageSources): string {
  const dataset = sources.dataset(digest);
  if (!dataset) {
    const source = job?.spec.data.source ?? "data";
    return graph.add({
      ...{ id: `data:${digest}`, kind: "data", name: source, digest, detail: "not registered" },
      ...{ atMs: null, signers: [] },
    });
  }
  const { name, version, manifest, addedBy, createdAtMs, removedAtMs, attestation } = dataset;
  const reference = `${name}@${version}`;
  const state = removedAtMs === null ? "" : ", removed";
  const id = graph.add({
    ...{ id: `dataset:${reference}`, kind: "dataset", name: reference, digest, atMs: createdAtMs },
    detail: `${manifest.train.count} + ${manifest.test.count} examples, added by ${addedBy}${state}`,
    signers: attestation?.signatures.map(({ keyid }) => keyid) ?? [],
  });
  const { preparation, source } = manifest;
  const pipeline = { kind: "pipeline", reference: dataset.pipeline } as const;
  if (!addDocument(graph, pipeline, { id, relation: "prepared" }, sources))
    addNamelessPipeline(graph, preparation, id);
  graph.add({
    ...{ id: `data:${source.digest}`, kind: "data", name: source.kind, digest: source.digest },
    ...{ detail: `${source.bytes} bytes, as they were added`, atMs: null, signers: [] },
  });
  graph.connect(`data:${source.digest}`, id, "prepared");
  return id;
}

/** Of a data set of an earlier release, which knew pipelines by their digests alone. */
function addNamelessPipeline(graph: Graph, preparation: Preparation, datasetId: string): void {
  const digest = canonicalDigest(preparation);
  const id = graph.add({
    ...{ id: `pipeline:${digest}`, kind: "pipeline", name: `${preparation.kind} pipeline`, digest },
    ...{ detail: "", atMs: null, signers: [] },
  });
  graph.connect(id, datasetId, "prepared");
}

/** Up through fine-tuning. */
function addAncestors(graph: Graph, version: VersionRecord, sources: LineageSources): void {
  let child = version;
  for (let depth = 0; depth < ancestorsMax && child.manifest.lineage.from !== undefined; depth++) {
    const parent = sources.versions.find(child.manifest.lineage.from);
    if (!parent) throw new RingfoldError("NOT_FOUND", `there is no version ${child.manifest.lineage.from}`);
    graph.connect(addVersion(graph, parent, sources), jobId(child), "began");
    child = parent;
  }
}

function addDeployments(graph: Graph, record: VersionRecord, { deployments }: LineageSources): void {
  for (const { deployment, atMs } of record.deployments) {
    const view = deployments.find((each) => each.deployment === deployment);
    graph.add({
      ...{
        id: `deployment:${deployment}`,
        kind: "deployment",
        name: `deployment ${deployment}`,
        digest: null,
      },
      detail: view ? `${view.state}${view.live ? ", live" : ""}` : "ended",
      ...{ atMs, signers: [] },
    });
    graph.connect(`version:${referenceOf(record)}`, `deployment:${deployment}`, "served");
  }
}
