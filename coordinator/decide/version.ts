import { z } from "zod";
import { digestSchema } from "../../protocol/ids.ts";
import { envelopeSchema } from "../../protocol/messages/attestation.ts";
import { versionManifestSchema } from "../../protocol/messages/model.ts";

export const versionRecordSchema = z.object({
  version: z.number().int().positive(),
  /** SHA-256 of the manifest as canonical JSON; of its msgpack bytes in records of earlier releases. */
  digest: digestSchema,
  manifest: versionManifestSchema,
  /** By ranks of its job; none in records of earlier releases. */
  attestation: envelopeSchema.optional(),
  /** By the cluster's authority, over what only the coordinator knows; none in records of earlier releases. */
  registration: envelopeSchema.optional(),
  /** Its weights are free to go. The record stays: its number is not given again, and others tell that they come from it. */
  removedAtMs: z.number().nullable().default(null),
  /** By which it is or was served: the last of them. */
  deployments: z.array(z.object({ deployment: z.number().int(), atMs: z.number() })).default([]),
});
export type VersionRecord = z.infer<typeof versionRecordSchema>;

/** What a version is, and who vouches for it, as others are told. */
export const vouchedContent = ({ manifest, attestation, registration }: VersionRecord) => ({
  manifest,
  ...(attestation && { attestation }),
  ...(registration && { registration }),
});

/** The next version of a name; `earlier` are those that it has had, in order. */
export const numberVersion = (
  earlier: readonly VersionRecord[],
  content: Pick<VersionRecord, "digest" | "manifest" | "attestation">,
): VersionRecord => ({
  version: (earlier.at(-1)?.version ?? 0) + 1,
  ...content,
  ...{ removedAtMs: null, deployments: [] },
});

/** So many deployments of a version are remembered. */
const deploymentsKept = 100;

/** The same version, which a deployment now serves. */
export const servedBy = (record: VersionRecord, deployment: number, atMs: number): VersionRecord => ({
  ...record,
  deployments: [...record.deployments, { deployment, atMs }].slice(-deploymentsKept),
});
