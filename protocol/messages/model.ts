import { z } from "zod";
import { digestSchema, nameSchema } from "../ids.ts";

/** One layer of a sequential model, with what sharding needs to know. */
export const layerSchema = z.object({
  name: z.string().max(128),
  kind: z.string().max(64),
  /** Without the batch dimension. */
  outputShape: z.array(z.number().int().nonnegative()).max(8),
  parameterCount: z.number().int().nonnegative(),
  /** Multiply-adds of one example, forward. */
  multiplyAdds: z.number().nonnegative(),
});
export type LayerDescription = z.infer<typeof layerSchema>;

export const modelDescriptionSchema = z.object({
  /** TF.js LayersModel JSON (`model.toJSON()`), without weights. */
  topology: z.record(z.string(), z.unknown()),
  /** Without the batch dimension. */
  inputShape: z.array(z.number().int().positive()).max(8),
  outputShape: z.array(z.number().int().positive()).max(8),
  parameterCount: z.number().int().nonnegative(),
  layers: z.array(layerSchema).max(1_024),
});
export type ModelDescription = z.infer<typeof modelDescriptionSchema>;

/** What a version is. Its digest (of the msgpack bytes in key order) names it for ever. */
export const versionManifestSchema = z.object({
  format: z.literal(1),
  name: nameSchema,
  model: modelDescriptionSchema,
  weights: z.object({
    digest: digestSchema,
    bytes: z.number().nonnegative(),
    format: z.literal("safetensors"),
  }),
  lineage: z.object({
    jobId: z.string().max(64),
    dataDigest: digestSchema,
    seed: z.number(),
    steps: z.number().int().nonnegative(),
    parameterHash: digestSchema,
    generations: z.number().int().nonnegative(),
    peers: z.array(z.string()).max(1_024),
    engines: z.array(z.string()).max(64),
    release: z.string(),
  }),
  metrics: z.object({ accuracy: z.number(), loss: z.number(), testExamples: z.number().int().nonnegative() }),
  createdAtMs: z.number(),
});
export type VersionManifest = z.infer<typeof versionManifestSchema>;
