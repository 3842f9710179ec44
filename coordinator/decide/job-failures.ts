import { z } from "zod";
import type { JobDraft } from "./job-draft.ts";
import type { JobRecord } from "./job-record.ts";

/**
 * An agent on which trainers of a job die again and again is left out of it for a while: each death is a penalty that halves
 * in half an hour, and counts half where the job has written a checkpoint since the last one. From three in a row on the agent is left
 * out until the penalty has decayed, or its agent lives anew. One that is a little short of memory is not lost for a month.
 *
 * Source: as decide/flapping.ts, the damping of RFC 2439: additive penalty, exponential decay, a most that it can reach.
 */
const failureSchema = z.object({
  penalty: z.number(),
  atMs: z.number(),
  /** Of the agent. */
  life: z.string(),
  name: z.string(),
  /** Of the newest checkpoint then. */
  step: z.number().int(),
  /** It is left out. */
  barred: z.boolean(),
  /** Not for its deaths, but because it cannot hold its part of the model: time does not change that. */
  isTooSmall: z.boolean().default(false),
});
type Failure = z.infer<typeof failureSchema>;

/** By peer. Records of earlier releases have a count alone: whom they bar is forgiven at the first look. */
export const failuresSchema = z.record(
  z.string(),
  z.preprocess(
    (stored) =>
      typeof stored === "number"
        ? { penalty: stored, atMs: 0, life: "", name: "", step: 0, barred: true }
        : stored,
    failureSchema,
  ),
);

const halfLifeMs = 30 * 60_000;
/** Three deaths within some minutes, and not three in a day. */
const barredAt = 2.5;
/** It is tried again after an hour at the latest. */
const penaltyMax = 10;

/** One more death of a trainer there. */
export function noteFailure(draft: JobDraft, peerId: string): void {
  const { job, world } = draft;
  const before = job.failures[peerId];
  const step = stepOf(job);
  const life = world.peers.get(peerId)?.incarnation ?? "";
  const decayed = before?.life === life ? settled(before, world.nowMs) / (step > before.step ? 2 : 1) : 0;
  const penalty = Math.min(penaltyMax, decayed + 1);
  const name = draft.name(peerId);
  const barred = penalty > barredAt;
  job.failures[peerId] = { penalty, atMs: world.nowMs, life, name, step, barred, isTooSmall: false };
}

/** Its trainer ends by a fault of its own each time: left out as after three deaths in a row. */
export function noteFaulty(draft: JobDraft, peerId: string): void {
  for (let deaths = 0; deaths < 3; deaths++) noteFailure(draft, peerId);
}

/** It cannot hold a part of the model. */
export function noteTooSmall(draft: JobDraft, peerId: string): void {
  const { job, world } = draft;
  const life = world.peers.get(peerId)?.incarnation ?? "";
  const common = { life, name: draft.name(peerId), step: stepOf(job), barred: true, isTooSmall: true };
  job.failures[peerId] = { penalty: penaltyMax, atMs: world.nowMs, ...common };
}

/** Whose time is over, or who lives anew, is asked again. */
export function forgive({ job, world }: JobDraft): void {
  for (const [peerId, failure] of Object.entries(job.failures)) {
    if (!failure.barred) continue;
    const peer = world.peers.get(peerId);
    if (peer && peer.incarnation !== failure.life) delete job.failures[peerId];
    else if (!failure.isTooSmall && settled(failure, world.nowMs) <= barredAt) failure.barred = false;
  }
}

export const barredFrom = ({ failures }: Pick<JobRecord, "failures">): string[] =>
  Object.keys(failures).filter((peerId) => failures[peerId]!.barred);

/** For people, after what a job waits for: who is left out of it, and why. Empty where nobody is. */
export function leftOutText({ failures }: Pick<JobRecord, "failures">): string {
  const barred = Object.values(failures).filter((failure) => failure.barred);
  const say = (those: readonly Failure[], why: string) =>
    those.length === 0 ? "" : `; ${those.map(({ name }) => name).join(", ")} ${why}`;
  return (
    say(
      barred.filter(({ isTooSmall }) => !isTooSmall),
      "left out for a while: its trainers died again and again",
    ) +
    say(
      barred.filter(({ isTooSmall }) => isTooSmall),
      "left out: too little memory",
    )
  );
}

const settled = ({ penalty, atMs }: Failure, nowMs: number): number =>
  penalty * 2 ** (-Math.max(0, nowMs - atMs) / halfLifeMs);

/** Of its newest checkpoint: some steps between two deaths are no progress. */
const stepOf = ({ checkpoints }: JobRecord): number => Math.max(0, ...checkpoints.map(({ step }) => step));
