import { z } from "zod";
import { aliasSchema, digestSchema, nameSchema } from "../ids.ts";
import { jobSpecSchema } from "../job-spec.ts";
import { preparationSchema } from "../preparation.ts";
import { sweepSpecSchema } from "../sweep-spec.ts";

/** Documents by which work is told: how data is prepared (a pipeline), what a job is to do (a configuration). Named as versions are. */

export const documentKindSchema = z.enum(["pipeline", "config"]);
export type DocumentKind = z.infer<typeof documentKindSchema>;

/** `credit@1`, or `credit@stable` by an alias. */
export const documentReferenceSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}@([1-9][0-9]{0,8}|[a-z][a-z0-9-]{0,31})$/,
    "must be NAME@N or NAME@ALIAS, for example credit@1",
  );

const plainObject = z.record(z.string(), z.unknown());
export type DocumentContent = z.infer<typeof plainObject>;

/** What a job file says, or a sweep file: that has `search` beside it. With all defaults, so that it means the same for ever. */
const configSchema = plainObject.transform((value, context): DocumentContent => {
  const result = "search" in value ? sweepSpecSchema.safeParse(value) : jobSpecSchema.safeParse(value);
  for (const { path, message } of result.error?.issues ?? [])
    context.addIssue({ code: "custom", path, message });
  if (!result.success) return z.NEVER;
  return "search" in result.data ? { ...result.data.job, search: result.data.search } : result.data;
});

export const documentContentSchemas = {
  pipeline: preparationSchema,
  config: configSchema,
} as const satisfies Record<DocumentKind, z.ZodType<object>>;

const request = { name: nameSchema, /** For people: user and machine. */ addedBy: z.string().max(255) };
export const documentRequestSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("pipeline"), ...request, content: preparationSchema }),
  z.strictObject({ kind: z.literal("config"), ...request, content: configSchema }),
]);
export type DocumentRequest = z.input<typeof documentRequestSchema>;

export const documentViewSchema = z.object({
  kind: documentKindSchema,
  name: nameSchema,
  version: z.number().int().positive(),
  /** Of its content as canonical JSON. */
  digest: digestSchema,
  /** Of that JSON. */
  bytes: z.number().int().nonnegative(),
  /** By whom; of one that came with work, with what. */
  addedBy: z.string(),
  createdAtMs: z.number(),
  aliases: z.array(aliasSchema),
});
export type DocumentView = z.infer<typeof documentViewSchema>;

export const documentDetailSchema = documentViewSchema.extend({ content: plainObject });
export type DocumentDetail = z.infer<typeof documentDetailSchema>;

/** One key that differs between two contents; values are JSON, absent where one has none. */
export const keyDifferenceSchema = z.object({
  /** Keys, joined by dots; those of list elements are their places, from 0. */
  path: z.string(),
  before: z.unknown().optional(),
  after: z.unknown().optional(),
});
export type KeyDifference = z.infer<typeof keyDifferenceSchema>;
