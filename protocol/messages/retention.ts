import { z } from "zod";
import { nameSchema } from "../ids.ts";

/** Which versions of a model stay by themselves. What something needs stays whatever a rule says. */

export const retentionRequestSchema = z.strictObject({
  /** The newest so many stay, at least one. */
  keepLast: z.number().int().positive().max(1_000_000),
  /** Older ones stay so long after they were made; null: they go at once. */
  keepForDays: z.number().int().positive().max(36_500).nullable().default(null),
});
export type RetentionRequest = z.input<typeof retentionRequestSchema>;

export const retentionViewSchema = z.object({
  name: nameSchema,
  keepLast: z.number().int(),
  keepForDays: z.number().int().nullable(),
  /** Versions that are there. */
  presentCount: z.number().int(),
  /** Those of them that stay although they are none of the newest. */
  keptCount: z.number().int(),
});
export type RetentionView = z.infer<typeof retentionViewSchema>;

export const retentionDetailSchema = retentionViewSchema.extend({
  /** And why; the oldest 1,000. */
  kept: z.array(z.object({ version: z.number().int().positive(), reason: z.string() })),
});
export type RetentionDetail = z.infer<typeof retentionDetailSchema>;
