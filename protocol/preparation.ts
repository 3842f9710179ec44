import { z } from "zod";

/**
 * How a source becomes examples: the content of a pipeline file (docs/data.md). Whatever has to be learned from the data
 * (means, vocabularies, classes) is fitted on the training split alone, and stands in the data set's manifest.
 */

const positiveInteger = z.number().int().positive();
const columnName = z.string().min(1).max(256);
const columnNames = z.array(columnName).min(1).max(4_096);

const splitSchema = z.strictObject({
  /** Columns whose values decide the side: rows that share them are never on both. The whole row unless told. */
  by: columnNames.optional(),
  testShare: z.number().min(0).max(0.9).default(0.2),
  seed: z.number().int().min(0).max(0xffff_ffff).default(1),
});
const defaultSplit = { testShare: 0.2, seed: 1 };

const stepSchema = z.discriminatedUnion("do", [
  /** Keeps the first of rows that are alike in these columns. */
  z.strictObject({ do: z.literal("duplicates"), columns: columnNames.optional() }),
  z.strictObject({
    do: z.literal("missing"),
    columns: columnNames.optional(),
    with: z.enum(["drop", "mean", "median", "mode", "constant"]),
    /** Of `constant`. */
    value: z.union([z.string(), z.number()]).optional(),
  }),
  z.strictObject({
    do: z.literal("outliers"),
    columns: columnNames.optional(),
    /** Outside of these quantiles, or further from the mean than `limit` standard deviations. */
    method: z.enum(["quantile", "z-score"]).default("quantile"),
    low: z.number().min(0).max(1).default(0.01),
    high: z.number().min(0).max(1).default(0.99),
    limit: z.number().positive().default(4),
    action: z.enum(["clip", "drop"]).default("clip"),
  }),
  z.strictObject({
    do: z.literal("normalise"),
    columns: columnNames.optional(),
    method: z.enum(["standard", "min-max"]).default("standard"),
  }),
  z.strictObject({
    do: z.literal("encode"),
    columns: columnNames.optional(),
    method: z.enum(["one-hot", "index", "hashing"]).default("one-hot"),
    /** Of `hashing`. */
    buckets: positiveInteger.max(2 ** 24).default(1_024),
    /** Of the others: rarer values count as unknown. */
    valuesMax: positiveInteger.max(65_536).default(1_024),
  }),
  z.strictObject({
    do: z.literal("tokenise"),
    columns: columnNames,
    method: z.enum(["bytes", "words", "bpe"]).default("words"),
    /** Tokens of an example: what is longer is cut, what is shorter padded. */
    length: positiveInteger.max(65_536).default(128),
    vocabularyMax: positiveInteger.max(2 ** 20).default(10_000),
  }),
]);
export type PreparationStep = z.infer<typeof stepSchema>;

const targetColumnSchema = z.strictObject({
  column: columnName,
  /** Told from the column unless given: a few whole numbers or words are classes, other numbers a number. */
  kind: z.enum(["class", "binary", "number"]).optional(),
  /** The labels in the order of their classes; those of the training rows unless told. Of `binary`: [negative, positive]. */
  classes: z.array(z.string()).min(2).max(65_536).optional(),
});

const tableSchema = z.strictObject({
  kind: z.literal("table"),
  target: targetColumnSchema,
  /** Of a CSV file. */
  delimiter: z.string().length(1).default(","),
  /** Cells that hold no value. */
  missingValues: z.array(z.string()).max(64).default(["", "NA", "N/A", "null", "NULL"]),
  /** Columns that are no part of an example. */
  ignore: z.array(columnName).max(4_096).default([]),
  /** What a column holds, where that is not to be told from its cells. */
  columns: z.record(columnName, z.enum(["number", "category", "text"])).default({}),
  split: splitSchema.default(defaultSplit),
  /** Done in this order. */
  steps: z.array(stepSchema).max(64).default([]),
});
export type TablePreparation = z.infer<typeof tableSchema>;

const tokenMethod = z.enum(["bytes", "words", "bpe"]).default("bytes");
const tokenLength = positiveInteger.max(65_536).default(128);
const vocabularyMax = positiveInteger.max(2 ** 20).default(10_000);
/** Of sources whose examples have no columns to choose a key from. */
const plainSplitSchema = splitSchema.omit({ by: true }).default(defaultSplit);

/** For language models: the target of each token is the next one. */
const textSchema = z.strictObject({
  kind: z.literal("text"),
  method: tokenMethod,
  length: tokenLength,
  vocabularyMax,
  split: plainSplitSchema,
});
export type TextPreparation = z.infer<typeof textSchema>;

/** For models that read one text and write another. */
const pairsSchema = z.strictObject({
  kind: z.literal("pairs"),
  source: columnName,
  target: columnName,
  method: tokenMethod,
  sourceLength: tokenLength,
  targetLength: tokenLength,
  vocabularyMax,
  delimiter: z.string().length(1).default(","),
  split: plainSplitSchema,
});
export type PairsPreparation = z.infer<typeof pairsSchema>;

const imageSide = positiveInteger.max(4_096);
const imagesSchema = z.strictObject({
  kind: z.literal("images"),
  /** That of the first image, which all must then have, unless told. */
  size: z.strictObject({ height: imageSide, width: imageSide }).optional(),
  channels: z.union([z.literal(1), z.literal(3)]).default(3),
  split: plainSplitSchema,
});
export type ImagePreparation = z.infer<typeof imagesSchema>;

export const preparationSchema = z.discriminatedUnion("kind", [
  tableSchema,
  textSchema,
  pairsSchema,
  imagesSchema,
]);
export type Preparation = z.infer<typeof preparationSchema>;
