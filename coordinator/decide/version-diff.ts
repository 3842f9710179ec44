import type { JobSpec } from "../../protocol/job-spec.ts";
import type { VersionDifference } from "../../protocol/messages/api.ts";
import type { VersionManifest } from "../../protocol/messages/model.ts";

/** What is known of a version: its manifest, and the job that made it where that is still kept. */
export interface KnownVersion {
  readonly manifest: VersionManifest;
  readonly job: JobSpec | undefined;
}

/**
 * Where two versions differ: in what their jobs asked for, the model, what made them, and the metrics. Leaf by leaf, by
 * their paths; lists are leaves.
 */
export function diffVersions(before: KnownVersion, after: KnownVersion): VersionDifference[] {
  const [one, other] = [partsOf(before), partsOf(after)];
  return (["job", "model", "lineage", "metrics"] as const).flatMap((part) => {
    const [left, right] = [leavesOf(one[part]), leavesOf(other[part])];
    const paths = [...new Set([...left.keys(), ...right.keys()])];
    return paths
      .filter((path) => JSON.stringify(left.get(path)) !== JSON.stringify(right.get(path)))
      .map((path) => ({ part, path, before: left.get(path), after: right.get(path) }));
  });
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

function leavesOf(value: unknown, path = ""): Map<string, unknown> {
  if (value === undefined) return new Map();
  if (typeof value !== "object" || value === null || Array.isArray(value)) return new Map([[path, value]]);
  return new Map(
    Object.entries(value).flatMap(([key, part]) => [...leavesOf(part, path === "" ? key : `${path}.${key}`)]),
  );
}
