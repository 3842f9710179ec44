import type { JobSpec } from "../../protocol/job-spec.ts";
import type { VersionDifference } from "../../protocol/messages/api.ts";
import type { VersionManifest } from "../../protocol/messages/model.ts";
import { differences } from "./differences.ts";

/** What is known of a version: its manifest, and the job that made it where that is still kept. */
export interface KnownVersion {
  readonly manifest: VersionManifest;
  readonly job: JobSpec | undefined;
}

/** Where two versions differ: in what their jobs asked for, the model, what made them, and the metrics. */
export function diffVersions(before: KnownVersion, after: KnownVersion): VersionDifference[] {
  const [one, other] = [partsOf(before), partsOf(after)];
  return (["job", "model", "lineage", "metrics"] as const).flatMap((part) =>
    differences(one[part], other[part]).map((difference) => ({ part, ...difference })),
  );
}

function partsOf({ manifest, job }: KnownVersion) {
  const { model, lineage, metrics } = manifest;
  return {
    job,
    model: {
      parameterCount: model.parameterCount,
      inputShape: model.inputShape,
      outputShape: model.outputShape,
      layers: Object.fromEntries(
        model.layers.map(({ name, kind, outputShape }) => [name, { kind, outputShape }]),
      ),
    },
    lineage,
    metrics,
  };
}
