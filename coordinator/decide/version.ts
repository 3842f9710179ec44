import { z } from "zod";
import { digestSchema } from "../../protocol/ids.ts";
import { type VersionManifest, versionManifestSchema } from "../../protocol/messages/model.ts";

export const versionRecordSchema = z.object({
  version: z.number().int().positive(),
  /** SHA-256 of the manifest's msgpack bytes. */
  digest: digestSchema,
  manifest: versionManifestSchema,
});
export type VersionRecord = z.infer<typeof versionRecordSchema>;

/** The next version of a name; `earlier` are those that it has, in order. */
export const numberVersion = (
  earlier: readonly VersionRecord[],
  { digest, manifest }: { readonly digest: string; readonly manifest: VersionManifest },
): VersionRecord => ({ version: (earlier.at(-1)?.version ?? 0) + 1, digest, manifest });
