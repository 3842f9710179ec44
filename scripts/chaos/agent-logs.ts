import { open } from "node:fs/promises";
import { z } from "zod";

/** What the trainers of one agent wrote to its log about the generations of a job. */
export interface LogEvidence {
  /** The last step that this rank had completed when a generation ended for it. */
  readonly endedAt: readonly { readonly generation: number; readonly step: number }[];
  /** How often a rank met parameters other than those it was promised. */
  readonly divergences: number;
}

const lineSchema = z.object({
  jobId: z.string(),
  generation: z.number(),
  step: z.number(),
  msg: z.literal("Generation ended"),
  err: z.object({ code: z.string() }).optional(),
});

/** Reads an agent's log, a line of JSON each, of which only a few concern us. */
export async function readLogEvidence(path: string, jobId: string): Promise<LogEvidence> {
  const endedAt: { generation: number; step: number }[] = [];
  let divergences = 0;
  const file = await open(path);
  for await (const line of file.readLines()) {
    if (!line.includes('"Generation ended"')) continue;
    const parsed = lineSchema.safeParse(parseLine(line));
    if (!parsed.success || parsed.data.jobId !== jobId) continue;
    const { generation, step, err } = parsed.data;
    endedAt.push({ generation, step });
    if (err?.code === "HASH_DIVERGED") divergences++;
  }
  return { endedAt, divergences };
}

/** A killed process leaves half a line, and the next one goes on in it. */
function parseLine(line: string): unknown {
  try {
    return JSON.parse(line.slice(Math.max(0, line.lastIndexOf('{"level"'))));
  } catch {
    return undefined;
  }
}
