import { z } from "zod";
import { featureSchema } from "../data-schema.ts";
import { digestSchema, nameSchema } from "../ids.ts";
import { tableClassesMax } from "../metric.ts";

/** One layer of a model, with what sharding needs to know. Each comes after all that it takes. */
export const layerSchema = z.object({
  name: z.string().max(128),
  kind: z.string().max(64),
  /** Without the batch dimension. */
  outputShape: z.array(z.number().int().nonnegative()).max(8),
  parameterCount: z.number().int().nonnegative(),
  /** Multiply-adds of one example, forward. */
  multiplyAdds: z.number().nonnegative(),
  /** Numbers of one example that training keeps beside the output, where they are many. */
  keptElements: z.number().int().nonnegative().optional(),
  /**
   * Numbers of one example that go on to the next shard where one ends here, if later layers take more than what this one puts
   * out: several tensors, flat, one behind the other.
   */
  crossingElements: z.number().int().nonnegative().optional(),
  /** Of an earlier release, whose shards end only where one tensor crosses: none ends here. */
  uncuttable: z.literal(true).optional(),
});
export type LayerDescription = z.infer<typeof layerSchema>;

export const modelDescriptionSchema = z.object({
  /** TF.js LayersModel JSON (`model.toJSON()`), sequential or functional, without weights. */
  topology: z.record(z.string(), z.unknown()),
  /** Without the batch dimension. */
  inputShape: z.array(z.number().int().positive()).max(8),
  /** The parts of an example, where there are several; a model's inputs are those of the same name. */
  features: z.array(featureSchema).max(1_024).optional(),
  outputShape: z.array(z.number().int().positive()).max(8),
  parameterCount: z.number().int().nonnegative(),
  layers: z.array(layerSchema).max(1_024),
});
export type ModelDescription = z.infer<typeof modelDescriptionSchema>;

/** Of the held-out examples: what the kind of target implies, `auc`, `rmse` or `perplexity`, and what the job asks for. */
export const metricsSchema = z.record(z.string().max(64), z.number());

const count = z.number().int().nonnegative();
const share = z.number().min(0).max(1);
/** Where a job asks for them: tables of the held-out targets, one entry a class. */
export const tablesSchema = z.object({
  classes: z
    .array(z.object({ support: count, precision: share, recall: share, f1: share }))
    .max(tableClassesMax)
    .optional(),
  /** By class, how often each class was the answer. */
  confusion: z.array(z.array(count).max(tableClassesMax)).max(tableClassesMax).optional(),
});
export type Tables = z.infer<typeof tablesSchema>;

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
    /** The version whose weights it began with. */
    from: z.string().max(128).optional(),
    peers: z.array(z.string()).max(1_024),
    engines: z.array(z.string()).max(64),
    release: z.string(),
  }),
  metrics: z.object({
    /** Null where the target is a number. */
    accuracy: z.number().nullable(),
    loss: z.number(),
    /** Absent in manifests of earlier releases. */
    further: metricsSchema.default({}),
    testExamples: z.number().int().nonnegative(),
    ...tablesSchema.shape,
  }),
  createdAtMs: z.number(),
});
export type VersionManifest = z.infer<typeof versionManifestSchema>;
