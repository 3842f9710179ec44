import type { JobDraft } from "./job-draft.ts";
import { noteTooSmall } from "./job-failures.ts";
import { releaseLeavers } from "./job-members.ts";
import type { Member } from "./job-record.ts";
import { mayHold } from "./stages.ts";

/**
 * `stages: auto`: into how many stages a model is cut. Each worker first says what a stage would take there, for 1, 2, 3 ... of
 * them, and what it has; the fewest are taken with which the present workers can hold a copy of the model. From then on
 * the job is as any other with so many stages.
 */

/** @returns whether it is known how many stages there are, and members are asked for them */
export function settleStageCount(draft: JobDraft): boolean {
  const { job } = draft;
  if (job.spec.stages !== "auto") return true;
  releaseLeavers(draft);
  const sized = draft.inPhase("sized").sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
  const count = Object.keys(job.members).length;
  if (sized.length < count || count === 0) {
    if (count > 0) job.reason = `${sized.length} of ${count} workers have said what they can hold`;
    return false;
  }
  const { min } = job.spec.workers;
  const stagesMax = Math.min(...sized.map(({ sizes }) => sizes!.stagesMax));
  const counts = Array.from({ length: stagesMax }, (_, i) => i + 1);
  for (const stages of counts) {
    const places = placesOf(stages, min);
    const holders = holdersOf(places, sized, stages);
    if (!holders) continue;
    begin(draft, { stages, holders: new Map(holders.map((member, i) => [member.peerId, places[i]!])) });
    return true;
  }
  const some = counts.find((stages) => placesOf(stages, 1).every((stage) => isHeldBy(sized, stages, stage)));
  if (some === undefined) {
    const message = `${offersOf(sized)}, and of ${stagesMax} stages, the most that this job may have, ${needOf(sized, stagesMax)}`;
    draft.fail({ code: "MODEL_TOO_LARGE", message });
    return false;
  }
  job.state = "waiting";
  job.reason = `waits for more workers: ${some} stage${some === 1 ? "" : "s"} of which ${needOf(sized, some)}; ${offersOf(sized)}`;
  return false;
}

/** Which stages are to be held, by so many that the least world of the job is there. */
function placesOf(stages: number, workersMin: number): number[] {
  const replicas = Math.max(1, Math.ceil(workersMin / stages));
  return Array.from({ length: stages * replicas }, (_, i) => i % stages);
}

/**
 * A member for each place, each of them once; undefined where there are not enough.
 * Source: Kuhn, "The Hungarian method for the assignment problem", 1955; here by augmenting paths.
 */
function holdersOf(
  places: readonly number[],
  members: readonly Member[],
  stages: number,
): Member[] | undefined {
  const holders: (Member | undefined)[] = places.map(() => undefined);
  const find = (place: number, tried: Set<string>): boolean =>
    members.some((member) => {
      if (tried.has(member.peerId) || !mayHold(member, { stages, stage: places[place]! })) return false;
      tried.add(member.peerId);
      const taken = holders.indexOf(member);
      if (taken !== -1 && !find(taken, tried)) return false;
      holders[place] = member;
      return true;
    });
  return places.every((_, place) => find(place, new Set())) ? (holders as Member[]) : undefined;
}

const isHeldBy = (members: readonly Member[], stages: number, stage: number): boolean =>
  members.some((member) => mayHold(member, { stages, stage }));

/** Asks everyone for a stage: those that the count is chosen for, and who is left over for one that it can hold. */
function begin(
  draft: JobDraft,
  { stages, holders }: { readonly stages: number; readonly holders: ReadonlyMap<string, number> },
): void {
  const { job } = draft;
  const members = draft.inPhase("sized");
  job.changes.push(
    stages === 1
      ? `one stage, as ${offersOf(members)}, and the whole model takes ${mostBytes(members, 1)}`
      : `${stages} stages of which ${needOf(members, stages)}, as ${offersOf(members)}, and ${stages === 2 ? "the whole model" : `one of ${stages - 1}`} takes ${mostBytes(members, stages - 1)}`,
  );
  if (stages === 1) delete job.spec.stages;
  else job.spec.stages = stages;
  const counts = new Array<number>(stages).fill(0);
  for (const stage of holders.values()) counts[stage]!++;
  for (const member of members) {
    const stage = holders.get(member.peerId) ?? leastHeld(member, counts);
    if (stage === undefined) {
      noteTooSmall(draft, member.peerId);
      const reason = "has too little memory for a stage";
      draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason });
      delete job.members[member.peerId];
      continue;
    }
    if (!holders.has(member.peerId)) counts[stage]!++;
    member.stage = stages === 1 ? null : stage;
    // Of what it has said no more is needed: the record is written with each decision.
    member.sizes!.stageBytes = member.sizes!.stageBytes.map((row, i) => (i === stages - 1 ? row : []));
    draft.setPhase(member, "preparing");
    draft.effects.push({ kind: "prepare", peerId: member.peerId });
  }
}

/** Of the stages that this member can hold the one with the fewest. */
function leastHeld(member: Member, counts: readonly number[]): number | undefined {
  const able = counts.flatMap((count, stage) =>
    mayHold(member, { stages: counts.length, stage }) ? [{ count, stage }] : [],
  );
  return able.sort((a, b) => a.count - b.count)[0]?.stage;
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;

/** For people, as all that follows. */
function offersOf(members: readonly Member[]): string {
  const offers = members.map(({ sizes }) => sizes!.memoryBytes);
  const [least, most] = [Math.min(...offers), Math.max(...offers)];
  return least === most
    ? `the workers have ${gigabytes(least)} each`
    : `the workers have ${gigabytes(least)} to ${gigabytes(most)}`;
}

const needOf = (members: readonly Member[], stages: number): string =>
  `the largest takes ${mostBytes(members, stages)}`;

/** Whoever tells of fewer counts has room for all from there on, and does not know. */
function mostBytes(members: readonly Member[], stages: number): string {
  const rows = members.flatMap(({ sizes }) => sizes!.stageBytes[stages - 1] ?? []);
  const known = rows.filter((bytes) => bytes !== null);
  return known.length < rows.length || known.length === 0
    ? "more than their engine can hold"
    : gigabytes(Math.max(...known));
}
