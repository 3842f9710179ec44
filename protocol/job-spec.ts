import { z } from "zod";
import { digestSchema, nameSchema } from "./ids.ts";
import { limits } from "./limits.ts";
import { askedMetricSchema } from "./metric.ts";
import { needsSchema } from "./needs.ts";
import { lossSpecSchema } from "./objective.ts";
import { scriptSpecSchema } from "./script-spec.ts";
import { evaluationSpecSchema, optimizerSpecSchema, scheduleSchema } from "./training-spec.ts";

/** What a job trains, on what, and how. This is the content of a job file; docs/job-file.md is its manual. */

const positiveInteger = z.number().int().positive();
const unitInterval = z.number().min(0).lt(1);

const cnnSchema = z.strictObject({
  architecture: z.literal("cnn"),
  /** One entry a block of convolution (ReLU) and 2x2 max-pool. */
  filters: z.array(positiveInteger.max(1024)).min(1).max(4).default([32]),
  kernelSize: positiveInteger.max(11).default(3),
  /** Widths of dense ReLU layers before the last one. */
  hidden: z.array(positiveInteger.max(8192)).max(8).default([]),
});
const mlpSchema = z.strictObject({
  architecture: z.literal("mlp"),
  hidden: z.array(positiveInteger.max(8192)).max(16).default([128]),
});
const residualSchema = z.strictObject({
  architecture: z.literal("residual-cnn"),
  /** One entry a stage; each stage after the first halves the sides. */
  filters: z.array(positiveInteger.max(1024)).min(1).max(6).default([16, 32]),
  /** Residual blocks a stage. */
  blocks: positiveInteger.max(32).default(1),
});
const dropout = z.number().min(0).max(0.9).default(0);
const recurrentSchema = z.strictObject({
  architecture: z.literal("recurrent"),
  cell: z.enum(["lstm", "gru"]).default("gru"),
  embeddingWidth: positiveInteger.max(4096).default(32),
  /** One entry a layer. */
  units: z.array(positiveInteger.max(4096)).min(1).max(8).default([32]),
  /** Each layer reads the text both ways, with so many units for each. */
  bidirectional: z.boolean().default(false),
  dropout,
});
const dividesWidth = ({ width, heads }: { width: number; heads: number }) => width % heads === 0;
const transformer = {
  width: positiveInteger.max(8192).default(64),
  heads: positiveInteger.max(128).default(4),
  /** Blocks; of an encoder-decoder so many in each half. */
  layers: positiveInteger.max(96).default(2),
  dropout,
} as const;
const headsError = { path: ["heads"], message: "width must be a multiple of heads" };
const transformerLmSchema = z
  .strictObject({ architecture: z.literal("transformer-lm"), ...transformer })
  .refine(dividesWidth, headsError);
const encoderDecoderSchema = z
  .strictObject({ architecture: z.literal("encoder-decoder"), ...transformer })
  .refine(dividesWidth, headsError);
const tabularSchema = z.strictObject({
  architecture: z.literal("tabular"),
  hidden: z.array(positiveInteger.max(8192)).max(16).default([64, 32]),
  /** Of a category's vector at most; half as many as it has values where those are few. */
  embeddingWidth: positiveInteger.max(1024).default(8),
});
const twoTowerSchema = z.strictObject({
  architecture: z.literal("two-tower"),
  width: positiveInteger.max(1024).default(16),
  /** Widths of the dense layers on each vector; none is matrix factorisation. */
  hidden: z.array(positiveInteger.max(8192)).max(16).default([]),
});
/** A TF.js LayersModel topology (`model.toJSON()`), sequential or functional. Nothing in it is evaluated. */
const layersSchema = z.strictObject({
  architecture: z.literal("layers"),
  topology: z.record(z.string(), z.unknown()),
});
export const modelSpecSchema = z.discriminatedUnion("architecture", [
  cnnSchema,
  mlpSchema,
  residualSchema,
  recurrentSchema,
  transformerLmSchema,
  encoderDecoderSchema,
  tabularSchema,
  twoTowerSchema,
  layersSchema,
]);
export type ModelSpec = z.infer<typeof modelSpecSchema>;

const exampleLimit = positiveInteger.optional();
const mnistSchema = z.strictObject({
  source: z.literal("mnist"),
  /** Use only the first so many examples; for quick trials. */
  trainExamples: exampleLimit,
  testExamples: exampleLimit,
});
const idxSchema = z.strictObject({
  source: z.literal("idx"),
  trainImages: z.string().min(1),
  trainLabels: z.string().min(1),
  testImages: z.string().min(1),
  testLabels: z.string().min(1),
  trainExamples: exampleLimit,
  testExamples: exampleLimit,
});
const datasetSchema = z.strictObject({
  source: z.literal("dataset"),
  /** `digits@1`; without a number the newest. The coordinator writes down which one that was. */
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,62}(@[1-9][0-9]{0,8})?$/, "give NAME or NAME@N, for example digits@1"),
  /** Of its manifest; filled in by the coordinator. */
  digest: digestSchema.optional(),
  trainExamples: exampleLimit,
  testExamples: exampleLimit,
});
export const dataSpecSchema = z.discriminatedUnion("source", [mnistSchema, idxSchema, datasetSchema]);
export type DataSpec = z.infer<typeof dataSpecSchema>;

export const engineNameSchema = z.enum(["auto", "tensorflow", "webgpu", "wasm", "cpu"]);
export type EngineName = z.infer<typeof engineNameSchema>;

/** They come with Ringfold, so every agent has them; they use no GPU. */
export const enginesEverywhere: readonly string[] = ["wasm", "cpu"] satisfies EngineName[];

/** `torch` is no engine of an agent: it is what a job with a script runs on. */
const jobEngineSchema = z.enum([...engineNameSchema.options, "torch"]);

/** How gradients travel between the ranks; bf16 and int8 are lossy, and carry error feedback. */
export const wireSchema = z.enum(["f32", "bf16", "int8"]);
export type Wire = z.infer<typeof wireSchema>;

/** Recursive doubling sends whole vectors in few rounds: for small ones over links with latency. */
export const algorithmSchema = z.enum(["ring", "doubling"]);
export type Algorithm = z.infer<typeof algorithmSchema>;

/** Steps between two meetings of the ranks; bounded, as a rank that dies takes so many with it. */
const everySteps = positiveInteger.max(100_000);
const synchronizationSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("every-step") }),
  /** Local SGD. Source: Stich, "Local SGD converges fast and communicates little", 2019. */
  z.strictObject({ kind: z.literal("averaging"), everySteps: everySteps.default(32) }),
  /** Source: Douillard et al., "DiLoCo", 2023, arXiv 2311.08105. */
  z.strictObject({
    kind: z.literal("diloco"),
    everySteps: everySteps.default(64),
    outerLearningRate: z.number().positive().max(10).default(0.7),
    /** Of Nesterov's kind. */
    outerMomentum: unitInterval.default(0.9),
  }),
]);
export type SynchronizationSpec = z.infer<typeof synchronizationSchema>;

const augmentShift = z.number().int().min(0).max(1_024).default(0);
/** Of training examples, anew in each epoch. */
export const augmentSchema = z.strictObject({
  flip: z.enum(["none", "horizontal", "vertical", "both"]).default("none"),
  /** Pixels to each side at most. */
  shift: augmentShift,
  /** Rows and columns that a random crop leaves out. */
  crop: augmentShift,
  /** Standard deviation. */
  noise: z.number().min(0).max(1_000).default(0),
});
export type AugmentSpec = z.infer<typeof augmentSchema>;
/** Names of layers or of their parameters; `*` stands for anything. */
const layerPatterns = z.array(z.string().min(1).max(128)).max(64);

const topKSchema = z.strictObject({ fraction: z.number().positive().max(0.5) });

/** Whatever the job's script builds, and whatever it reads. */
const scriptModelSchema = z.strictObject({ architecture: z.literal("script") });
const scriptDataSchema = z.strictObject({ source: z.literal("script") });

/** Of jobs that wait for the same agents the one with the highest begins first. */
export const prioritySchema = z.number().int().min(0).max(9);
export const normalPriority = 5;

export const jobObjectSchema = z.strictObject({
  /** Also the name of the version that the job registers. */
  name: nameSchema,
  /** In the queue; higher goes first. What an operator says later counts instead. */
  priority: prioritySchema.default(normalPriority),
  /** Whose it is: quotas are by project. */
  project: nameSchema.default("default"),
  model: z.discriminatedUnion("architecture", [...modelSpecSchema.options, scriptModelSchema]),
  data: z.discriminatedUnion("source", [...dataSpecSchema.options, scriptDataSchema]),
  augment: augmentSchema.optional(),
  /** A version, `name@N` or `name@alias`, whose weights it begins with. */
  from: z
    .string()
    .regex(
      /^[a-z0-9._-]{1,63}@([1-9][0-9]{0,8}|[a-z][a-z0-9-]{0,31})$/,
      "must be NAME@N or NAME@ALIAS, for example digits@1",
    )
    .optional(),
  /** Layers that begin anew all the same: those that have another shape there. */
  reset: layerPatterns.optional(),
  /** Layers that are not trained. */
  freeze: layerPatterns.optional(),
  /** What is minimised; by the kind of target unless told. */
  loss: lossSpecSchema.optional(),
  /** Of the held-out set, beside what is told of its kind of target anyway. */
  metrics: z.array(askedMetricSchema).min(1).max(16).optional(),
  optimizer: optimizerSpecSchema.default({
    kind: "adam",
    learningRate: 0.001,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
  }),
  schedule: scheduleSchema.default({ kind: "constant" }),
  /** Global: over all ranks, whatever their number. */
  batchSize: positiveInteger.max(65_536).default(64),
  /** `measured`: an agent takes a part of each batch by its speed, so that all are done at the same time. */
  batchShares: z.enum(["even", "measured"]).default("even"),
  /** Examples that an agent computes at once; a larger slice of the batch is summed up from so many parts. */
  microBatchSize: positiveInteger.max(65_536).optional(),
  /**
   * Cuts the model by layers into so many stages, each on agents of its own: for one that is too large for an agent.
   * `workers` counts all of them: a multiple of this many train, the others are spare. `auto`: as few as fit the agents'
   * memory; the coordinator writes down how many that are, none where the whole model fits.
   */
  stages: z.union([z.number().int().min(2).max(limits.stagesMax), z.literal("auto")]).optional(),
  /** The longest that the mean gradient of the global batch may be, as a vector; a longer one is scaled down. */
  clipNorm: z.number().positive().optional(),
  epochs: positiveInteger.max(100_000).default(1),
  workers: z
    .strictObject({
      min: positiveInteger.max(limits.worldSizeMax).default(1),
      max: positiveInteger.max(limits.worldSizeMax).default(4),
      /** More agents with a trainer ready, which step in when a rank is lost. */
      spares: z.number().int().min(0).max(limits.worldSizeMax).default(0),
    })
    // On this object, not on the whole job: zod skips a refinement of the whole while any key is wrong.
    .refine(({ min, max }) => min <= max, { path: ["min"], message: "workers.min is more than workers.max" })
    .default({ min: 1, max: 4, spares: 0 }),
  /** Of each of its agents; others get no part in it. The engine, where it is named, is needed too. */
  needs: needsSchema.optional(),
  seed: z.number().int().min(0).max(0xffff_ffff).default(1),
  checkpoint: z
    .strictObject({
      everySteps: positiveInteger.default(200),
      /** On each agent; the one before is there when the newest is damaged. */
      keepLast: positiveInteger.max(100).default(1),
      /** The version holds the best state that was evaluated, where the last one is none better. */
      keepBest: z.boolean().default(false),
    })
    .default({ everySteps: 200, keepLast: 1, keepBest: false }),
  /** While it trains, beside the one at the end. */
  evaluation: evaluationSpecSchema.optional(),
  engine: jobEngineSchema.default("auto"),
  /** Of engine torch: the program that each rank runs. */
  script: scriptSpecSchema.optional(),
  /** `measured` leaves slow links out of the ring where it can; `as-joined` does not look at links. */
  ringOrder: z.enum(["measured", "as-joined"]).default("measured"),
  /** `plaintext` is for a trusted LAN and must be asked for. */
  transport: z.enum(["encrypted", "plaintext"]).default("encrypted"),
  wire: wireSchema.default("f32"),
  /** How sums are made: round a ring, in pairs by recursive doubling, or as the measured links say that is faster. */
  allReduce: z.enum(["auto", "ring", "doubling"]).default("auto"),
  /** `auto` sends large gradients piece by piece while the rest is computed; `never` sends all at once. */
  overlap: z.enum(["auto", "never"]).default("auto"),
  /** When a loss or a gradient is NaN or infinite: end the job, or leave that update out on every rank. */
  nonFinite: z.enum(["stop", "skip"]).default("stop"),
  /** When the ranks meet, and what they agree on there. */
  synchronization: synchronizationSchema.default({ kind: "every-step" }),
  /** Only this share of the elements travels, the largest; the others wait in the error feedback. */
  topK: topKSchema.optional(),
});

export const jobSpecSchema = jobObjectSchema
  .refine(({ wire, topK }) => !topK || wire === "f32", {
    path: ["topK"],
    message: "topK sends f32 values beside their places: leave wire at f32",
  })
  .refine(({ allReduce, wire, topK }) => allReduce !== "doubling" || (wire === "f32" && !topK), {
    path: ["allReduce"],
    message: "doubling sums exact f32: leave wire at f32 and topK out, or allReduce at auto",
  })
  .refine(({ checkpoint, evaluation }) => !checkpoint.keepBest || evaluation !== undefined, {
    path: ["checkpoint"],
    message: "keepBest needs evaluation, which says which state is best",
  })
  .refine(({ checkpoint, engine }) => !checkpoint.keepBest || engine !== "torch", {
    path: ["checkpoint"],
    message: "with engine torch the script keeps what it thinks best",
  })
  .refine(({ engine, needs }) => needs?.gpuMemory === undefined || !enginesEverywhere.includes(engine), {
    path: ["needs"],
    message: "gpuMemory is of the GPU that the engine computes on: wasm and cpu use none",
  })
  .refine(({ stages, workers }) => (stageCountOf({ stages }) ?? 1) <= workers.max, {
    path: ["stages"],
    message: "more stages than workers.max: each is on an agent of its own",
  })
  .superRefine(({ stages, ...spec }, context) => {
    if (stages === undefined) return;
    const others: readonly [string, boolean][] = [
      ["engine", spec.engine === "torch"],
      ["synchronization", spec.synchronization.kind !== "every-step"],
      ["topK", spec.topK !== undefined],
      ["batchShares", spec.batchShares !== "even"],
    ];
    for (const [key] of others.filter(([, isAsked]) => isAsked))
      context.addIssue({ code: "custom", path: [key], message: "a model in stages trains without this" });
  })
  .refine(({ engine, script }) => (engine === "torch") === (script !== undefined), {
    path: ["engine"],
    message: "engine torch and script go together",
  })
  .refine(
    ({ engine, model, data }) =>
      [model.architecture === "script", data.source === "script"].every((is) => is === (engine === "torch")),
    {
      path: ["model"],
      message: "with engine torch the script brings model and data; without it they must be named",
    },
  )
  .superRefine(({ engine, loss, metrics }, context) => {
    const asked = Object.entries({ loss, metrics }).filter(([, value]) => value !== undefined);
    for (const [key] of engine === "torch" ? asked : [])
      context.addIssue({ code: "custom", path: [key], message: "with engine torch the script computes it" });
  })
  .refine(({ engine, synchronization }) => engine !== "torch" || synchronization.kind === "every-step", {
    path: ["synchronization"],
    message: "with engine torch the ranks meet at every step",
  });

export type JobSpec = z.infer<typeof jobSpecSchema>;

/** Undefined where the model is not cut, or nobody knows yet into how many. */
export const stageCountOf = ({
  stages,
}: {
  readonly stages?: number | "auto" | undefined;
}): number | undefined => (stages === "auto" ? undefined : stages);

/** Each stage is on an agent of its own. */
export const stageCountMax = ({ workers }: Pick<JobSpec, "workers">): number =>
  Math.min(workers.max, limits.stagesMax);

/**
 * Examples that an agent computes at once. With stages, unless told, four micro-batches for each of them: a stage then waits
 * for at most a fifth of a step (Huang et al., "GPipe", 2019, section 2.3).
 */
export function microBatchSizeOf(spec: Pick<JobSpec, "batchSize" | "microBatchSize" | "stages">): number {
  const { batchSize, microBatchSize } = spec;
  const stages = stageCountOf(spec);
  return Math.min(batchSize, microBatchSize ?? (stages ? Math.ceil(batchSize / (4 * stages)) : batchSize));
}
