import { z } from "zod";
import { digestSchema, nameSchema } from "../../protocol/ids.ts";
import { envelopeSchema } from "../../protocol/messages/attestation.ts";
import { datasetManifestSchema } from "../../protocol/messages/dataset.ts";

export const datasetRecordSchema = z.object({
  name: nameSchema,
  version: z.number().int().positive(),
  /** SHA-256 of the manifest's msgpack bytes. */
  digest: digestSchema,
  manifest: datasetManifestSchema,
  /** By the agent in whose store it was prepared; none in records of earlier releases. */
  attestation: envelopeSchema.optional(),
  addedBy: z.string(),
  /** The registered pipeline that it was prepared by, `loans@1`; null in records of earlier releases. */
  pipeline: z.string().nullable().default(null),
  createdAtMs: z.number(),
  /** Its number is not given again, and agents that were away still hear of it. */
  removedAtMs: z.number().nullable(),
});
export type DatasetRecord = z.infer<typeof datasetRecordSchema>;
