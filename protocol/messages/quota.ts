import { z } from "zod";
import { nameSchema } from "../ids.ts";

/** What a project may have of the cluster at a time. */

const most = z.number().int().nonnegative().max(1_000_000).nullable();

export const quotaRequestSchema = z
  .strictObject({
    /** Agents that work for its jobs; null: as many as there are. */
    agents: most.default(null),
    /** Jobs that agents work for; null: as many as there are. */
    jobs: most.default(null),
  })
  .refine(({ agents, jobs }) => agents !== null || jobs !== null, {
    message: "say agents, jobs or both; a project without a quota has none of these bounds",
  });
export type QuotaRequest = z.input<typeof quotaRequestSchema>;

export const quotaViewSchema = z.object({
  project: nameSchema,
  agents: z.number().int().nonnegative().nullable(),
  jobs: z.number().int().nonnegative().nullable(),
  /** Agents that work for its jobs, the jobs that they work for, and those that wait for agents. */
  used: z.object({ agents: z.number().int(), jobs: z.number().int(), waiting: z.number().int() }),
});
export type QuotaView = z.infer<typeof quotaViewSchema>;
