import { withSignatures } from "../../protocol/messages/attestation.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import type { JobDraft } from "./job-draft.ts";
import type { CheckpointRecord, JobRecord, Member } from "./job-record.ts";

const checkpointsKept = 200;

/**
 * Every rank says what its parameters are at each checkpoint; they must be those of all. Where they are not, and a majority
 * of the ranks agrees, the others are expelled: the ring pauses, and in the next generation they heal from the majority.
 * Without a majority nobody knows who is right, and the job ends.
 *
 * The other way, to end the job at the first difference, let one machine with a failing memory take all work with it.
 */
export function compareCheckpoint(
  draft: JobDraft,
  { peerId, stage }: Member,
  { point: { step, hash }, artefact }: { readonly point: TrainingPoint; readonly artefact: string },
): void {
  const { job } = draft;
  const generation = job.plan!.generation;
  const own = { step, hash, stage, artefact, generation, peers: [peerId] };
  const known = job.checkpoints.find(isOf(own));
  if (!known) {
    job.checkpoints = [...job.checkpoints, own].slice(-checkpointsKept);
    return;
  }
  const group = [known, ...job.dissents].find((each) => isOf(own)(each) && each.hash === hash);
  if (!group) job.dissents.push(own);
  else if (!group.peers.includes(peerId)) group.peers.push(peerId);
  judge(draft, own);
}

type Place = Pick<CheckpointRecord, "step" | "stage">;

/** What is to be the same: the whole state after a step, or that of one stage. */
const isOf =
  ({ step, stage }: Place) =>
  (each: Place): boolean =>
    each.step === step && each.stage === stage;

function judge(draft: JobDraft, at: Place): void {
  const { job } = draft;
  const groups = [...job.checkpoints, ...job.dissents].filter(isOf(at));
  if (groups.length < 2 || !job.plan) return;
  const ranks = job.plan.ranks
    .map(({ peerId }) => peerId)
    .filter((peerId) => at.stage === null || job.members[peerId]?.stage === at.stage);
  // Of an earlier generation, whose members may have had the same step: they are gone, or have healed.
  const votes = groups.map((group) => ({ group, peers: group.peers.filter((each) => ranks.includes(each)) }));
  const majority = votes.find(({ peers }) => 2 * peers.length > ranks.length);
  if (majority) return expel(draft, majority.group, ranks);
  const missing = ranks.filter(
    (peerId) => !votes.some(({ peers }) => peers.includes(peerId)) && !job.members[peerId]?.healing,
  );
  if (missing.length > 0) return;
  const sides = votes.map(({ peers }) => peers.map((each) => draft.name(each)).join(" and "));
  const message = `${sides.join(" against ")} at step ${at.step}: parameters differ, and no majority has the same`;
  draft.fail({ code: "HASH_DIVERGED", message });
}

function expel(draft: JobDraft, majority: CheckpointRecord, ranks: readonly string[]): void {
  const { job } = draft;
  const { step } = majority;
  const others = [...job.checkpoints, ...job.dissents].filter(
    (each) => isOf(majority)(each) && each.hash !== majority.hash,
  );
  for (const peerId of others.flatMap(({ peers }) => peers)) {
    if (!ranks.includes(peerId) || job.diverged.includes(peerId)) continue;
    job.diverged.push(peerId);
    job.changes.push(
      `${draft.name(peerId)} has other parameters than the majority at step ${step} and heals`,
    );
  }
  job.dissents = job.dissents.filter((each) => each.hash !== majority.hash || !isOf(majority)(each));
  job.checkpoints = job.checkpoints.map((each) => (isOf(majority)(each) ? majority : each));
}

type Result = NonNullable<JobRecord["result"]>;

/** Ranks that have come to the same sign the same statement. */
const cosigned = (known: Result, { attestation }: Result): Result =>
  known.attestation && attestation
    ? { ...known, attestation: withSignatures(known.attestation, attestation) }
    : known;

/** Of what ranks say that they have finished with, that which most have; the first of as many. */
export function compareResult(draft: JobDraft, result: Result): void {
  const { job } = draft;
  const votes = ({ point }: { readonly point: TrainingPoint }) =>
    draft.inPhase("finished").filter((member) => member.point?.hash === point.hash).length;
  if (!job.result || votes(result) > votes(job.result)) job.result = result;
  else job.result = cosigned(job.result, result);
  const finished = draft.inPhase("finished").length;
  if (finished < (job.plan?.ranks.length ?? 0) || 2 * votes(job.result) > finished) return;
  const message = `${finished} ranks ended with different parameters, and no majority with the same`;
  draft.fail({ code: "HASH_DIVERGED", message });
}
