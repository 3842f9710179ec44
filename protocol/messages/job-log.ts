import { z } from "zod";
import { peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { jobIdSchema } from "./job.ts";

const bytes = z.number().int().nonnegative();

const jobLogRequestSchema = z.object({
  term: z.number().int().nonnegative(),
  jobId: jobIdSchema,
  /** Bytes that the asker has, counted from the first one that was ever printed; negative: so many from the end. */
  after: z.number().int(),
  bytesMax: bytes.max(limits.jobLogBytes),
});
export type JobLogRequest = z.infer<typeof jobLogRequestSchema>;

const jobLogAnswerSchema = z.object({
  text: z.string(),
  /** Where `text` begins: later than was asked for when that is no longer kept. */
  start: bytes,
  /** What to ask for next. */
  next: bytes,
  hasMore: z.boolean(),
  /** No trainer of the job runs here: nothing is printed any more. */
  isOver: z.boolean(),
});
export type JobLogAnswer = z.infer<typeof jobLogAnswerSchema>;

/** coordinator -> agent: what a job's script has printed there. */
export const readJobLog: Conversation<JobLogRequest, JobLogAnswer> = {
  protocol: "/ringfold/job/log/1",
  request: jobLogRequestSchema,
  response: jobLogAnswerSchema,
  requestBytesMax: 1_024,
  responseBytesMax: 4 * limits.jobLogBytes,
  timeoutMs: limits.requestTimeoutMs / 2,
};

/** What the HTTP API tells of all agents at once. */
export const jobLogsSchema = z.object({
  pieces: z.array(
    z.object({
      peerId: peerIdSchema,
      name: z.string(),
      /** In the newest generation that this agent was in; null before any. */
      rank: z.number().int().nullable(),
      text: z.string(),
      /** Bytes ahead of `text` that are no longer kept. */
      skippedBytes: bytes,
    }),
  ),
  /** Names of ranks that cannot be asked now. */
  unreachable: z.array(z.string()),
  /** `after` of the next request. */
  next: z.string(),
  /** More is there already. */
  hasMore: z.boolean(),
  /** Nothing is printed any more. */
  isOver: z.boolean(),
});
export type JobLogs = z.infer<typeof jobLogsSchema>;

export const jobLogsQuerySchema = z.strictObject({
  /** Only what came after the answer with this `next`. */
  after: z
    .string()
    .max(8_192)
    .regex(/^(\w+:\d{1,15}(,(?=\w)|$))*$/, "must be the `next` of an answer")
    .optional(),
  /** Only so many bytes from the end of each agent's log. */
  tail: z.coerce.number().int().positive().max(limits.jobLogBytes).optional(),
});
export type JobLogsQuery = z.infer<typeof jobLogsQuerySchema>;
