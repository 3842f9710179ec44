import { limits } from "../../../protocol/limits.ts";
import type { HeldCheckpoint } from "../../../protocol/messages/job-report.ts";
import type { ArtefactStore } from "../../artefact/store.ts";

type Store = Pick<ArtefactStore, "names" | "stat">;

/** As `Checkpointer` names them: of a job, or of one stage of it. */
const nameOf = /^checkpoint\/(?<jobId>job-(?<number>[0-9]+))(\/stage-(?<stage>[0-9]+))?(\/[0-9]+)?$/;

/**
 * The checkpoints of a job on this agent's disk, its neighbours' copies too, the newest first. Those are left out of which it is
 * not known when they were written: of an earlier release, or fetched.
 * Cost: one look at each name in the store.
 */
export function heldCheckpoints(store: Store, jobId: string): HeldCheckpoint[] {
  const held = [...store.names()].flatMap(([name, { digest, step, written }]): HeldCheckpoint[] => {
    const { groups } = nameOf.exec(name) ?? {};
    if (groups?.jobId !== jobId || !written || store.stat(digest) === undefined) return [];
    const stage = groups.stage === undefined ? null : Number(groups.stage);
    const { generation, hash } = written;
    return [{ generation, stage, point: { step, hash }, artefact: digest }];
  });
  return held
    .sort((a, b) => b.generation - a.generation || b.point.step - a.point.step)
    .slice(0, limits.heldCheckpointsMax);
}

/** Jobs of which something lies here, the newest. */
export function jobsHeld(store: Store): string[] {
  const numbers = new Map<string, number>();
  for (const name of store.names().keys()) {
    const { jobId, number } = nameOf.exec(name)?.groups ?? {};
    if (jobId !== undefined) numbers.set(jobId, Number(number));
  }
  const newest = [...numbers].sort(([, a], [, b]) => b - a).slice(0, limits.heldJobsMax);
  return newest.map(([jobId]) => jobId);
}
