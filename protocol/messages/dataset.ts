import { z } from "zod";
import { exampleShapeSchema } from "../data-schema.ts";
import { digestSchema, nameSchema, peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { preparationSchema } from "../preparation.ts";
import { envelopeSchema } from "./attestation.ts";
import { documentReferenceSchema } from "./document.ts";

/** What a data set is, how it is registered, and who holds it. */

const count = z.number().int().nonnegative();

/** A part of an example, from a column as it is after the steps. */
const encoderSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("number"), column: z.string() }),
  /** 1 at the value's place, else zeros. */
  z.object({ kind: z.literal("one-hot"), column: z.string(), values: z.array(z.string()) }),
  /** 1 + the value's place; 0 is unknown. */
  z.object({ kind: z.literal("index"), column: z.string(), values: z.array(z.string()) }),
  z.object({ kind: z.literal("hashing"), column: z.string(), buckets: z.number().int().positive() }),
  /** 0 is padding. Marked: a beginning and an end have tokens of their own, below those of the bytes. */
  z.object({
    kind: z.literal("bytes"),
    column: z.string(),
    length: z.number().int().positive(),
    marked: z.literal(true).optional(),
  }),
  /** 0 is padding, 1 an unknown word. */
  z.object({
    kind: z.literal("words"),
    column: z.string(),
    length: z.number().int().positive(),
    marked: z.literal(true).optional(),
    values: z.array(z.string()),
  }),
  /** 0 is padding; then as with bytes, and a token for each merge: of the two tokens, bytes or merges before it, that it joins. */
  z.object({
    kind: z.literal("bpe"),
    column: z.string(),
    length: z.number().int().positive(),
    marked: z.literal(true).optional(),
    merges: z.array(z.tuple([count, count])).max(65_280),
  }),
]);
export type Encoder = z.infer<typeof encoderSchema>;

/** A step with what it has learned from the training rows. Clips and scales are by column. */
const fittedStepSchema = z.discriminatedUnion("do", [
  z.object({ do: z.literal("fill"), values: z.record(z.string(), z.union([z.number(), z.string()])) }),
  z.object({
    do: z.literal("clip"),
    bounds: z.record(z.string(), z.object({ low: z.number(), high: z.number() })),
  }),
  z.object({
    do: z.literal("scale"),
    /** (value - shift) / factor */
    scales: z.record(z.string(), z.object({ shift: z.number(), factor: z.number() })),
  }),
  /** Rows that the training goes without; a prediction takes every row. */
  z.object({
    do: z.literal("drop"),
    why: z.enum(["duplicates", "missing", "outliers"]),
    columns: z.array(z.string()),
    bounds: z.record(z.string(), z.object({ low: z.number(), high: z.number() })).optional(),
    trainRows: count,
    testRows: count,
  }),
]);
export type FittedStep = z.infer<typeof fittedStepSchema>;

const fittedPreparationSchema = z.object({
  columns: z.array(z.object({ name: z.string(), kind: z.enum(["number", "category", "text"]) })),
  steps: z.array(fittedStepSchema),
  encoders: z.array(encoderSchema),
  /** Of a target that is a class or binary: the label of each class. */
  classes: z.array(z.string()).optional(),
});
export type FittedPreparation = z.infer<typeof fittedPreparationSchema>;

/** Of the training rows, before any step. */
const columnStatisticsSchema = z.object({
  name: z.string(),
  kind: z.enum(["number", "category", "text", "ignored"]),
  count,
  missing: count,
  distinct: count,
  mean: z.number().nullable(),
  sd: z.number().nullable(),
  /** min, 1%, 25%, 50%, 75%, 99%, max */
  quantiles: z.array(z.number()).max(7),
  top: z.array(z.object({ value: z.string(), count })).max(10),
});
export type ColumnStatistics = z.infer<typeof columnStatisticsSchema>;

/** Of the training images, as they are trained on: pixels from 0 to 1. */
const imageStatisticsSchema = z.object({
  height: count,
  width: count,
  channels: z.array(z.object({ mean: z.number(), sd: z.number() })).max(4),
});
export type ImageStatistics = z.infer<typeof imageStatisticsSchema>;

/** Of the training texts of one column, as tokens, before they are cut. */
const textStatisticsSchema = z.object({
  column: z.string(),
  documents: count,
  tokens: count,
  /** Tokens that there are, and how many of them occur. */
  ...{ vocabulary: count, used: count },
  /** Words that are not in the vocabulary, each time. */
  unknown: count,
  /** Documents that are longer than an example, whose end is left out. */
  cut: count,
  /** Tokens of a document; beyond 4,096 the quantiles are to 1.6%. */
  lengths: z.object({ min: count, median: count, p95: count, max: count }),
});
export type TextStatistics = z.infer<typeof textStatisticsSchema>;

const splitContentSchema = z.object({
  count,
  /** Of each class, where there are classes. */
  classCounts: z.array(count).optional(),
  /** SHA-256 of each chunk, in order; all but the last hold `chunkExamples`. */
  chunks: z.array(digestSchema).max(100_000),
});
export type SplitContent = z.infer<typeof splitContentSchema>;

/**
 * The data set itself, without its name: its digest (of the msgpack bytes in key order) is the same whoever prepares the
 * same source in the same way.
 */
export const datasetManifestSchema = z.object({
  format: z.literal(1),
  source: z.object({ kind: z.string().max(32), bytes: count, digest: digestSchema }),
  shape: exampleShapeSchema,
  chunkExamples: z.number().int().positive(),
  /** Of all chunks together. */
  bytes: count,
  train: splitContentSchema,
  test: splitContentSchema,
  preparation: preparationSchema,
  fitted: fittedPreparationSchema,
  statistics: z.array(columnStatisticsSchema).max(4_096),
  /** Not of a data set that an earlier release has prepared. */
  images: imageStatisticsSchema.optional(),
  texts: z.array(textStatisticsSchema).max(4_096).optional(),
});
export type DatasetManifest = z.infer<typeof datasetManifestSchema>;

export const datasetRequestSchema = z.strictObject({
  name: nameSchema,
  manifest: datasetManifestSchema,
  digest: digestSchema,
  /** Who adds it, for people: user and machine. */
  addedBy: z.string().max(255),
  /** The registered pipeline that it was prepared by; without one the manifest's is registered under its own name. */
  pipeline: documentReferenceSchema.optional(),
  /** By the agent in whose store it was prepared; a member of the cluster. */
  attestation: envelopeSchema.optional(),
});
export type DatasetRequest = z.infer<typeof datasetRequestSchema>;

export const datasetViewSchema = z.object({
  name: nameSchema,
  version: z.number().int().positive(),
  /** Of the manifest. */
  digest: digestSchema,
  bytes: count,
  trainExamples: count,
  testExamples: count,
  shape: exampleShapeSchema,
  addedBy: z.string(),
  createdAtMs: z.number(),
  /** That it was prepared by, `loans@1`; null of one of an earlier release. */
  pipeline: z.string().nullable().default(null),
  /** The agent in whose store it was prepared, if that has signed it and the coordinator has verified it. */
  signers: z.array(peerIdSchema).default([]),
  /** Live peers that hold all of it. */
  holders: z.array(peerIdSchema),
});
export type DatasetView = z.infer<typeof datasetViewSchema>;
export const datasetDetailSchema = datasetViewSchema.extend({
  manifest: datasetManifestSchema,
  attestation: envelopeSchema.optional(),
});
export type DatasetDetail = z.infer<typeof datasetDetailSchema>;

/** agent -> coordinator: whether there is a data set with a manifest that the agent has in its store. */
export const askRegistered: Conversation<{ digest: string }, { registered: boolean }> = {
  protocol: "/ringfold/dataset/registered/1",
  request: z.object({ digest: digestSchema }),
  response: z.object({ registered: z.boolean() }),
  requestBytesMax: 1_024,
  responseBytesMax: 1_024,
  timeoutMs: limits.requestTimeoutMs,
};

/** What a prediction needs of the data set that a version was trained on: how examples were made, and what its numbers mean. */
export const versionDataSchema = z.object({
  /** `loans@1` */
  dataset: z.string(),
  digest: digestSchema,
  /** Nobody holds its chunks any more; all this is known all the same. */
  removed: z.boolean(),
  ...datasetManifestSchema.pick({ shape: true, preparation: true, fitted: true }).shape,
});
export type VersionData = z.infer<typeof versionDataSchema>;
