import { createHash } from "node:crypto";
import { encode } from "../protocol/codec.ts";
import { RingfoldError } from "../protocol/errors.ts";
import { shortPeer } from "../protocol/ids.ts";
import type { JobSpec } from "../protocol/job-spec.ts";
import { limits } from "../protocol/limits.ts";
import type { Envelope } from "../protocol/messages/attestation.ts";
import type {
  DatasetDetail,
  DatasetRequest,
  DatasetView,
  VersionData,
} from "../protocol/messages/dataset.ts";
import type { Metric } from "../protocol/metric.ts";
import { checkMetric, checkObjective, type KnownTarget } from "../protocol/objective.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import { verifyDataset } from "../protocol/provenance.ts";
import type { CoordinatorContext } from "./context.ts";
import type { DatasetRecord } from "./decide/dataset.ts";
import type { Decision } from "./decide/decision.ts";
import type { Registration } from "./document-desk.ts";
import { liveHolders, type Registered } from "./replication-desk.ts";
import { collections, padded } from "./state.ts";

/** Registered data sets: numbered by name, never changed, held by several agents. */
export class DatasetDesk {
  readonly #context: CoordinatorContext;
  readonly #records: Map<string, DatasetRecord>;
  /** Asked at every look around. */
  #registered: Registered | undefined;

  constructor(context: CoordinatorContext) {
    this.#context = context;
    this.#records = new Map(
      collections.datasets.readAll(context.store).map((record) => [referenceOf(record), record]),
    );
  }

  views(): DatasetView[] {
    return this.#present().map((record) => this.#view(record));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(name: string, version: number): DatasetDetail {
    const record = this.#get(name, version);
    const { manifest, attestation } = record;
    return { ...this.#view(record), manifest, ...(attestation && { attestation }) };
  }

  /** By its digest; also one that was removed. */
  find(digest: string): DatasetRecord | undefined {
    return [...this.#records.values()].find((record) => record.digest === digest);
  }

  /**
   * What a prediction needs of a data set. That is kept when it is removed: a version may be served for years after its data had to go.
   * @throws RingfoldError NOT_FOUND when no such data set was ever registered
   */
  preparedBy(digest: string): VersionData {
    const record = this.find(digest);
    if (!record) {
      const message = "it was trained on no data set that is, or was, registered";
      throw new RingfoldError("NOT_FOUND", message, {
        digest,
        remedy: "Prepare the inputs yourself, and give them with --input.",
      });
    }
    const { shape, preparation, fitted } = record.manifest;
    const isRemoved = record.removedAtMs !== null;
    return { dataset: referenceOf(record), digest, removed: isRemoved, shape, preparation, fitted };
  }

  /** @param reference `name@version` @throws RingfoldError NOT_FOUND */
  named(reference: string): DatasetDetail {
    const [name = "", version] = reference.split("@");
    return this.view(name, Number(version));
  }

  /**
   * Gives a data set its number. The same content under the same name keeps the number that it has.
   * @param register its pipeline, once it is known that all is well
   * @throws RingfoldError REQUEST_INVALID when the digest is not that of the manifest; SIGNATURE_INVALID when it is signed by
   * nobody of the cluster, or something else is
   */
  async add(
    { name, manifest, digest, addedBy, attestation }: DatasetRequest,
    register: () => Promise<Registration>,
  ): Promise<DatasetDetail> {
    const bytes = encode(manifest);
    if (
      bytes.byteLength > limits.datasetManifestBytes ||
      createHash("sha256").update(bytes).digest("hex") !== digest
    ) {
      throw new RingfoldError(
        "REQUEST_INVALID",
        "the digest is not that of the manifest, or the manifest is too large",
      );
    }
    if (attestation) await this.#assertSigned({ name, manifest, digest }, attestation);
    const pipeline = await register();
    const known = this.#present().find((record) => record.name === name && record.digest === digest);
    if (known) return this.view(name, known.version);
    const { clock } = this.#context;
    const version = Math.max(0, ...this.#named(name).map((record) => record.version)) + 1;
    const record = {
      name,
      version,
      digest,
      manifest,
      ...(attestation && { attestation }),
      addedBy,
      pipeline: pipeline.reference,
      createdAtMs: clock.nowMs(),
      removedAtMs: null,
    };
    const reason = `added by ${addedBy}: ${manifest.train.count} training and ${manifest.test.count} test examples`;
    const event = { kind: "dataset-added", dataset: referenceOf(record), digest } as const;
    await this.#commit(record, { event, reason }, pipeline.writes);
    pipeline.written();
    return this.view(name, version);
  }

  /**
   * Its number is never given again; agents free its chunks.
   * @param isNeeded whether a job that is not over trains on this digest
   * @throws RingfoldError NOT_FOUND | CONFLICT
   */
  async remove(name: string, version: number, isNeeded: (digest: string) => boolean): Promise<void> {
    const record = this.#get(name, version);
    if (isNeeded(record.digest)) {
      const message = `a job that is not over trains on ${name}@${version}`;
      throw new RingfoldError("CONFLICT", message, { remedy: "Cancel the job, or wait for its end." });
    }
    const { clock } = this.#context;
    const removed = { ...record, removedAtMs: clock.nowMs() };
    await this.#commit(removed, {
      event: { kind: "dataset-removed", dataset: referenceOf(record) },
      reason: "removed",
    });
  }

  /**
   * A job's data as its trainers take it: a name becomes the version that it means now, with its digest.
   * @param metric that a sweep compares its trials by
   * @throws RingfoldError NOT_FOUND; JOB_INVALID where the data cannot have the job's loss or metrics
   */
  resolve(spec: JobSpec, metric?: Metric): JobSpec {
    const data = this.#resolveData(spec.data);
    const target = this.#targetOf(data);
    if (target) checkObjective(spec, target);
    if (target && metric) checkMetric("search.metric", metric, target);
    return { ...spec, data };
  }

  /** What files hold only the agents know: images of classes. A script's data is the script's. */
  #targetOf(data: JobSpec["data"]): KnownTarget | undefined {
    if (data.source === "script") return undefined;
    if (data.source !== "dataset") return { kind: "class" };
    return this.#records.get(data.name)?.manifest.shape.target;
  }

  /** By the digests of their manifests; the same object until one comes or goes. */
  registered(): Registered {
    if (this.#registered) return this.#registered;
    const removed = [...this.#records.values()].filter(({ removedAtMs }) => removedAtMs !== null);
    const present = new Set(this.#present().map(({ digest }) => digest));
    this.#registered = { present: [...present], removed: removed.map(({ digest }) => digest) };
    return this.#registered;
  }

  #view(record: DatasetRecord): DatasetView {
    return datasetView(record, liveHolders(this.#context, record.digest));
  }

  async #assertSigned(dataset: Parameters<typeof verifyDataset>[0], attestation: Envelope): Promise<void> {
    const { store, isSignedBy } = this.#context;
    const signers = await verifyDataset(dataset, attestation, isSignedBy);
    const stranger = signers.find((peerId) => !collections.members.read(store, peerId));
    if (stranger === undefined) return;
    throw new RingfoldError("SIGNATURE_INVALID", `${shortPeer(stranger)} has signed it, and is no member`, {
      peer: stranger,
    });
  }

  async #commit(
    record: DatasetRecord,
    told: Pick<Decision, "event" | "reason">,
    extra: readonly StoreWrite[] = [],
  ): Promise<void> {
    const id = `${record.name}/${padded(record.version)}`;
    const decision = {
      ...told,
      who: { kind: "operator" },
      subject: `data ${referenceOf(record)}`,
      isNews: true,
    } as const;
    await this.#context.decisions.commit(decision, [collections.datasets.put(id, record), ...extra]);
    this.#records.set(referenceOf(record), record);
    this.#registered = undefined;
    this.#context.changed();
  }

  #resolveData(data: JobSpec["data"]): JobSpec["data"] {
    if (data.source !== "dataset") return data;
    const [name = "", number] = data.name.split("@");
    const newest = this.#present()
      .filter((record) => record.name === name)
      .at(-1);
    const record = number === undefined && newest ? newest : this.#get(name, Number(number ?? 1));
    if (data.digest !== undefined && data.digest !== record.digest) {
      throw new RingfoldError(
        "NOT_FOUND",
        `${referenceOf(record)} has another digest than the job names`,
        {},
      );
    }
    return { ...data, name: referenceOf(record), digest: record.digest };
  }

  #get(name: string, version: number): DatasetRecord {
    const record = this.#records.get(`${name}@${version}`);
    if (record && record.removedAtMs === null) return record;
    throw new RingfoldError("NOT_FOUND", `there is no data set ${name}@${version}`, {
      ...{ name, version },
      remedy: "List what exists with `ringfold data`; add one with `ringfold data add`.",
    });
  }

  #named(name: string): DatasetRecord[] {
    return [...this.#records.values()].filter((record) => record.name === name);
  }

  #present(): DatasetRecord[] {
    return [...this.#records.values()].filter(({ removedAtMs }) => removedAtMs === null);
  }
}

function datasetView(
  { name, version, digest, manifest, attestation, addedBy, pipeline, createdAtMs }: DatasetRecord,
  holders: string[],
): DatasetView {
  const { bytes, shape, train, test } = manifest;
  const counts = { bytes, trainExamples: train.count, testExamples: test.count };
  const signers = attestation?.signatures.map(({ keyid }) => keyid) ?? [];
  const about = { ...counts, shape, addedBy, pipeline, createdAtMs, signers };
  return { name, version, digest, ...about, holders };
}

const referenceOf = ({ name, version }: Pick<DatasetRecord, "name" | "version">): string =>
  `${name}@${version}`;
