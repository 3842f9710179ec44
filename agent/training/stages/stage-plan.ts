import assert from "node:assert";
import type { GenerationPlan, Rank } from "../../../protocol/messages/job.ts";

/** Where a rank stands in a plan with stages. */
export interface StagePlace {
  readonly stage: number;
  readonly stageCount: number;
  /** Which copy of the model it is a part of; the rank in the ring of its stage. */
  readonly replica: number;
  readonly replicaCount: number;
}

/** @throws AssertionError for a plan without stages, or one that does not name this peer */
export function placeIn({ ranks, stages }: GenerationPlan, peerId: string): StagePlace {
  assert(stages && ranks.length % stages.length === 0, "as many ranks of each stage");
  const replicaCount = ranks.length / stages.length;
  const rank = ranks.findIndex((each) => each.peerId === peerId);
  assert(rank >= 0, "a rank of the plan");
  const [stage, replica] = [Math.floor(rank / replicaCount), rank % replicaCount];
  return { stage, stageCount: stages.length, replica, replicaCount };
}

/** The plan as the ranks of one stage see it: those that share its parameters, and where these begin. */
export function planOfStage(plan: GenerationPlan, { stage, replicaCount }: StagePlace): GenerationPlan {
  const { ranks, stages, start, ...rest } = plan;
  const members = ranks.slice(stage * replicaCount, (stage + 1) * replicaCount);
  return {
    ...rest,
    ranks: members.map((member, rank): Rank => ({ ...member, rank })),
    start: { step: start.step, hash: stages![stage]!.hash },
    // Who lacks the state copies it before the first step: in the middle of one nobody can do without a stage.
    healsFirst: true,
  };
}

/** Ranks of the stages before and after, of the same replica. */
export function neighboursOf({ stage, stageCount, replica, replicaCount }: StagePlace) {
  const rankOf = (at: number) => (at >= 0 && at < stageCount ? at * replicaCount + replica : undefined);
  return { before: rankOf(stage - 1), after: rankOf(stage + 1) };
}
