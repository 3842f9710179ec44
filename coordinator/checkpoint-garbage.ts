import { isReleased, mayReleaseCheckpoints, releaseDueMs } from "./decide/garbage.ts";
import type { JobDesk } from "./job-desk.ts";

/** Of one agent; what came before was told before. */
const toldMax = 1_000;

type Jobs = Pick<JobDesk, "records" | "endings" | "dropCheckpoints">;

/** Finds the jobs from whose checkpoints nobody will go on, and whom to tell. */
export class CheckpointGarbage {
  readonly #jobs: Jobs;
  /** Of the jobs as they were looked through last: nothing has changed since then, and nothing will before the time. */
  #seen = { endings: -1, dueMs: 0 };
  #ids = "";
  #released: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(jobs: Jobs) {
    this.#jobs = jobs;
  }

  /** Durable before agents hear of it: a job that is tried again must not look for what is gone. */
  async lookAround(nowMs: number): Promise<void> {
    if (this.#jobs.endings === this.#seen.endings && nowMs <= this.#seen.dueMs) return;
    for (const job of this.#jobs.records())
      if (mayReleaseCheckpoints(job, nowMs) && !isReleased(job, nowMs))
        await this.#jobs.dropCheckpoints(job.id);
    const all = [...this.#jobs.records()];
    const dueMs = all.reduce(
      (soonest, job) => Math.min(soonest, releaseDueMs(job, nowMs)),
      Number.POSITIVE_INFINITY,
    );
    this.#seen = { endings: this.#jobs.endings, dueMs };
    const released = all.filter((job) => isReleased(job, nowMs));
    const ids = released.map(({ id }) => id).join();
    if (ids === this.#ids) return;
    this.#ids = ids;
    const byPeer = new Map<string, string[]>();
    for (const { id, peers } of released)
      for (const peerId of peers) byPeer.set(peerId, [...(byPeer.get(peerId) ?? []), id].slice(-toldMax));
    this.#released = byPeer;
  }

  /** Jobs by the agents that were their ranks; the same object as long as it says the same. */
  released(): ReadonlyMap<string, readonly string[]> {
    return this.#released;
  }
}
