import type { Target } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { VersionData } from "../../../protocol/messages/dataset.ts";
import type { VersionManifest } from "../../../protocol/messages/model.ts";
import { connectApi } from "../api-client.ts";
import type { CommandContext } from "../command.ts";

/** What the coordinator knows of the model that answers. */
export interface ServedVersion {
  readonly manifest: VersionManifest;
  /** Of the data set that it was trained on, also of one that was removed; none where it was trained on files. */
  readonly data: VersionData | undefined;
}

/** @throws RingfoldError NOT_FOUND when there is no such version */
export async function servedVersion(
  { name, version }: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<ServedVersion> {
  const api = await connectApi(context);
  const live = async () => (await api.deployments()).find((view) => view.live && view.name === name)?.version;
  const detail = await api.version(name, version ?? (await live()) ?? 1);
  const data = await orNothing(api.versionData(name, detail.version));
  return { manifest: detail.manifest, data };
}

/** Undefined where there is no such thing. */
const orNothing = <T>(answer: Promise<T>): Promise<T | undefined> =>
  answer.catch((cause: unknown) => {
    if (cause instanceof RingfoldError && cause.code === "NOT_FOUND") return undefined;
    throw cause;
  });

/** What is predicted, in the words of the data set. */
export interface TargetFacts {
  readonly kind: Target["kind"];
  /** Of the column. */
  readonly name?: string;
  /** The label of each class; of `binary` [negative, positive]. */
  readonly classes?: readonly string[];
}

export function targetFacts({ manifest, data }: ServedVersion): TargetFacts {
  if (!data) {
    const isOne = manifest.model.outputShape.length === 1 && manifest.model.outputShape[0] === 1;
    const kind = manifest.metrics.accuracy === null ? "number" : "binary";
    return { kind: isOne ? kind : "class" };
  }
  const { shape, fitted, preparation } = data;
  return {
    kind: shape.target.kind,
    ...(preparation.kind === "table" ? { name: preparation.target.column } : {}),
    ...(fitted.classes ? { classes: fitted.classes } : {}),
  };
}

/** As above; nothing where the coordinator does not know the version. */
export async function knownTarget(
  reference: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<TargetFacts | undefined> {
  const served = await orNothing(servedVersion(reference, context));
  return served && targetFacts(served);
}
