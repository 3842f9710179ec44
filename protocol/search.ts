import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { z } from "zod";
import { goalOf, metricSchema } from "./metric.ts";

/** What a sweep varies, and in which order it tries it. */

const positiveInteger = z.number().int().positive();
/** A record of each stands in the store, and people read the table. */
const trialsMax = 256;

/** Whatever may stand in a job file; the schema of the job says what may stand where. */
const valueSchema = z.union([
  z.string(),
  z.number(),
  z.boolean(),
  z.null(),
  z.array(z.unknown()),
  z.record(z.string(), z.unknown()),
]);
const valuesSchema = z.strictObject({ values: z.array(valueSchema).min(1).max(trialsMax) });
const rangeSchema = z
  .strictObject({
    min: z.number(),
    max: z.number(),
    scale: z.enum(["linear", "log"]).default("linear"),
    integer: z.boolean().default(false),
    /** Points of a grid, both ends included. */
    count: positiveInteger.min(2).max(trialsMax).optional(),
  })
  .refine(({ min, max }) => min < max, { path: ["max"], message: "max must be more than min" })
  .refine(({ min, scale }) => scale === "linear" || min > 0, {
    path: ["min"],
    message: "on a log scale min must be more than 0",
  });
type Range = z.infer<typeof rangeSchema>;
const dimensionSchema = z.union([valuesSchema, rangeSchema]);
export type Dimension = z.infer<typeof dimensionSchema>;

const common = {
  /** Of the held-out set: what the trials are compared by. */
  metric: metricSchema.default("loss"),
  /** Whether a small or a large value is good; known for each metric, unless told. */
  goal: z.enum(["minimize", "maximize"]).optional(),
  /** By the key of the job file: `optimizer.learningRate`. */
  space: z
    .record(z.string().regex(/^[A-Za-z][\w-]*(\.[A-Za-z][\w-]*)*$/), dimensionSchema)
    .refine((space) => Object.keys(space).length > 0, { message: "name at least one key of the job" }),
} as const;
const drawn = {
  seed: z.number().int().min(0).max(0xffff_ffff).default(1),
  trials: positiveInteger.max(trialsMax),
} as const;

export const searchSchema = z.discriminatedUnion("method", [
  z.strictObject({ method: z.literal("grid"), ...common }),
  z.strictObject({ method: z.literal("random"), ...drawn, ...common }),
  z.strictObject({
    method: z.literal("halving"),
    ...drawn,
    ...common,
    /** One in so many trials goes on, with so many times the epochs. */
    reduction: z.number().int().min(2).max(16).default(3),
    /** What each trial is given at first. */
    minEpochs: z.number().positive().default(1),
  }),
]);
export type Search = z.infer<typeof searchSchema>;

/** Values by key of the job. */
export const parametersSchema = z.record(z.string(), valueSchema);
export type Parameters = z.infer<typeof parametersSchema>;

/** Whether `a` is better than `b`. */
export function isBetter({ metric, goal }: Search, a: number, b: number): boolean {
  return (goal ?? goalOf(metric)) === "maximize" ? a > b : a < b;
}

/** A step of a sweep: so many trials are trained up to so many epochs in all. */
export interface Rung {
  readonly epochs: number;
  /** At most. */
  readonly trials: number;
}

/**
 * The rungs, the last of which trains to the end. With `halving`, synchronous successive halving: of n trials each is given
 * r epochs, the best n/η of them ηr, and so on.
 *
 * Source: Jamieson & Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016, with the
 * rungs of Li et al., "Hyperband", 2018, algorithm 1, inner loop.
 */
export function rungsOf(search: Search, epochs: number, trials: number): Rung[] {
  const rungs: Rung[] = [];
  if (search.method === "halving") {
    for (let given = search.minEpochs, left = trials; given < epochs; given *= search.reduction) {
      rungs.push({ epochs: given, trials: left });
      left = Math.max(1, Math.floor(left / search.reduction));
      trials = left;
    }
  }
  return [...rungs, { epochs, trials }];
}

/**
 * The trials of a sweep: a function of what it says alone, so the same seed tries the same. No two are alike; a small space
 * may have fewer than were asked for.
 * @returns undefined when there are more than a sweep may have
 */
export function trialsOf(search: Search): Parameters[] | undefined {
  const dimensions = Object.entries(search.space);
  if (search.method === "grid") {
    const axes = dimensions.map(([key, dimension]) => ({ key, points: gridOf(dimension) }));
    if (axes.reduce((product, { points }) => product * points.length, 1) > trialsMax) return undefined;
    return axes.reduce<Parameters[]>(
      (trials, { key, points }) =>
        trials.flatMap((trial) => points.map((value) => ({ ...trial, [key]: value }))),
      [{}],
    );
  }
  const generator = xoroshiro128plus(search.seed);
  for (let i = 0; i < 64; i++) generator.next(); // a small seed has few bits set, and so have its first numbers
  const found = new Map<string, Parameters>();
  const drawsMax = 20 * search.trials; // then the space has most likely no more
  for (let i = 0; i < drawsMax && found.size < search.trials; i++) {
    const trial = Object.fromEntries(dimensions.map(([key, dimension]) => [key, draw(dimension, generator)]));
    found.set(JSON.stringify(trial), trial);
  }
  return [...found.values()];
}

const gridOf = (dimension: Dimension): Parameters[string][] => {
  if ("values" in dimension) return dimension.values;
  const { count } = dimension;
  if (count === undefined) return [];
  const points = Array.from({ length: count }, (_, i) => within(dimension, i / (count - 1)));
  return [...new Set(points)];
};

function draw(dimension: Dimension, generator: RandomGenerator): Parameters[string] {
  if ("values" in dimension) return dimension.values[uniformInt(generator, 0, dimension.values.length - 1)]!;
  return within(dimension, uniformInt(generator, 0, 0xffff_ffff) / 0xffff_ffff);
}

/** @param share of the way from min to max, 0-1 */
function within({ min, max, scale, integer }: Range, share: number): number {
  const value = scale === "log" ? min * (max / min) ** share : min + share * (max - min);
  // Six digits say enough, and are read more easily.
  return Math.min(max, Math.max(min, integer ? Math.round(value) : Number(value.toPrecision(6))));
}
