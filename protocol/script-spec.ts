import { z } from "zod";
import { digestSchema } from "./ids.ts";
import { limits } from "./limits.ts";

/** A program that a job brings along: runs only where an agent's owner allows it. */
export const scriptSpecSchema = z.strictObject({
  /** File name, without a folder. */
  name: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,120}\.py$/),
  /** SHA-256 of the source. */
  digest: digestSchema,
  source: z.string().max(limits.scriptSourceBytes),
  args: z.array(z.string().max(4_096)).max(256).default([]),
  /** The Python to run it with on each agent; the agent's own choice unless told. */
  python: z.string().min(1).max(4_096).optional(),
});
export type ScriptSpec = z.infer<typeof scriptSpecSchema>;
