import {
  type PrepareRequest,
  prepareJob,
  quiesceJob,
  startGeneration,
  stopJob,
} from "../protocol/messages/job.ts";
import { type Command, commandOf } from "./command-outbox.ts";
import type { JobEffect } from "./decide/job.ts";

/** What an effect of a decision tells to whom, and what need not be told any more after it. */
export function commandOfEffect(
  effect: Exclude<JobEffect, { kind: "register" }>,
  {
    term,
    jobId,
    job,
  }: {
    readonly term: number;
    readonly jobId: string;
    readonly job: (peerId: string) => Omit<PrepareRequest, "term" | "jobId">;
  },
): { readonly peerIds: readonly string[]; readonly command: Command } {
  switch (effect.kind) {
    case "prepare":
      return {
        peerIds: [effect.peerId],
        command: commandOf(prepareJob, { term, jobId, ...job(effect.peerId) }, [startGeneration, quiesceJob]),
      };
    case "start":
      return {
        peerIds: effect.peerIds ?? effect.plan.ranks.map(({ peerId }) => peerId),
        command: commandOf(startGeneration, { term, plan: effect.plan }, [startGeneration, quiesceJob]),
      };
    case "quiesce":
      return {
        peerIds: effect.peerIds,
        command: commandOf(
          quiesceJob,
          { term, jobId, generation: effect.generation, ...(effect.checkpoint ? { checkpoint: true } : {}) },
          [quiesceJob],
        ),
      };
    case "stop":
      return {
        peerIds: effect.peerIds,
        command: commandOf(stopJob, { term, jobId, reason: effect.reason }, [
          prepareJob,
          startGeneration,
          quiesceJob,
          stopJob,
        ]),
      };
  }
}
