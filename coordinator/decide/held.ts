import type { HeldCheckpoint } from "../../protocol/messages/job-report.ts";
import type { CheckpointRecord, HeldRecord, JobRecord } from "./job-record.ts";

/**
 * Checkpoints that lie on the disks of agents, as these tell it themselves: the coordinator may have been away while they were
 * written, and their writers may be gone before it hears of them.
 */

/** The newest ones are enough to go on from. */
const heldKept = 128;

/**
 * All that an agent has of this job: what it told before is out of date.
 * @param comes it has just come, or come back: what was given up as nobody could get it is worth another try
 */
export function noteHeld(
  job: JobRecord,
  {
    from,
    held,
    comes,
  }: { readonly from: string; readonly held: readonly HeldCheckpoint[]; readonly comes: boolean },
): void {
  const records = job.held.map((each) => ({
    ...each,
    peers: each.peers.filter((peerId) => peerId !== from),
  }));
  for (const told of held) {
    const known = records.find((each) => isSame(each, told));
    if (!known) records.push({ ...told, peers: [from], lost: false });
    else Object.assign(known, { peers: [...known.peers, from], lost: known.lost && !comes });
  }
  job.held = records
    .filter(({ peers }) => peers.length > 0)
    .sort((a, b) => a.point.step - b.point.step || a.generation - b.generation)
    .slice(-heldKept);
}

const isSame = (a: HeldCheckpoint, b: HeldCheckpoint): boolean =>
  a.generation === b.generation && a.stage === b.stage && a.artefact === b.artefact;

/** Where all can begin: of each stage one state, or of the whole model the only one. */
interface WholeState {
  readonly step: number;
  readonly parts: readonly HeldRecord[];
}

/**
 * The newest state that is whole: of every part one that was written in the same generation after the same step. Parts of two
 * histories are never mixed.
 *
 * @param stages null alone: of a job without
 */
export function newestHeld(
  { held, checkpoints }: Pick<JobRecord, "held" | "checkpoints">,
  stages: readonly (number | null)[],
): WholeState | undefined {
  const sound = held.filter((each) => !each.lost && !checkpoints.some(isOtherThan(each)));
  for (const { generation, point } of sound.toReversed()) {
    const together = sound.filter((each) => each.generation === generation && each.point.step === point.step);
    const parts = stages.map((stage) => mostHeld(together.filter((each) => each.stage === stage)));
    if (parts.every((part) => part !== undefined)) return { step: point.step, parts };
  }
  return undefined;
}

/** Of different states, which a flipped bit may have made, the one that most have. */
const mostHeld = (records: readonly HeldRecord[]): HeldRecord | undefined =>
  records.toSorted((a, b) => b.peers.length - a.peers.length)[0];

/** The ranks of that generation have agreed on another state. */
const isOtherThan =
  ({ generation, stage, point }: HeldCheckpoint) =>
  (known: CheckpointRecord): boolean =>
    known.generation === generation &&
    known.stage === stage &&
    known.step === point.step &&
    known.hash !== point.hash;
