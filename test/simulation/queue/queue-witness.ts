import { z } from "zod";
import { isOver, type JobRecord } from "../../../coordinator/decide/job-record.ts";
import type { QuotaRecord } from "../../../coordinator/decide/queue-facts.ts";
import { decode } from "../../../protocol/codec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { StoreWrite } from "../../../protocol/ports.ts";
import type { World } from "../world/world.ts";

const anything = z.unknown();

/** Looks at each write of the coordinator, and checks what must hold between jobs that share a cluster. */
export class QueueWitness {
  readonly #world: World;
  /** As they are on disk. */
  readonly #jobs = new Map<string, JobRecord>();
  readonly #quotas = new Map<string, QuotaRecord>();
  /** Gangs that have begun. */
  begun = 0;
  /** Agents that a running job was to give to another. */
  reclaimed = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** By name: a day gives each its own. */
  job(name: string): JobRecord | undefined {
    return [...this.#jobs.values()].find(({ spec }) => spec.name === name);
  }

  jobs(): Iterable<JobRecord> {
    return this.#jobs.values();
  }

  applied(writes: readonly StoreWrite[]): void {
    for (const { key, value } of writes) {
      const record = value && decode(value, anything, limits.artefactBytes);
      if (key.startsWith("quota/")) this.#quotaApplied(key.slice("quota/".length), record as QuotaRecord);
      if (key.startsWith("job/") && record) this.#jobApplied(record as JobRecord);
    }
  }

  #quotaApplied(project: string, record: QuotaRecord | undefined): void {
    if (record) this.#quotas.set(project, record);
    else this.#quotas.delete(project);
  }

  #jobApplied(record: JobRecord): void {
    const before = this.#jobs.get(record.id);
    this.#jobs.set(record.id, record);
    if (isOver(record)) return;
    const had = before ? Object.keys(before.members) : [];
    const joined = Object.keys(record.members).filter((peerId) => !had.includes(peerId));
    if (joined.length > 0) this.#checkGrant(record, { before, had, joined });
    if (before) this.#checkYielding(before, record);
  }

  #checkGrant(
    record: JobRecord,
    {
      before,
      had,
      joined,
    }: {
      readonly before: JobRecord | undefined;
      readonly had: readonly string[];
      readonly joined: readonly string[];
    },
  ): void {
    const { id, spec } = record;
    const { min, max, spares } = spec.workers;
    const isUnderWay = before?.plan && before.resumeFrom === null && had.length > 0;
    if (had.length === 0) this.begun++;
    // Who is lost in the same moment was counted on.
    if (!isUnderWay && had.length + joined.length < min)
      this.#world.violate("gangs begin whole", `${id} has ${had.length} and gets ${joined.length} of ${min}`);
    if (Object.keys(record.members).length > max + spares)
      this.#world.violate("a job has what it may have", `${id} has more than ${max}+${spares}`);
    for (const other of this.#jobs.values()) {
      const shared = joined.filter((peerId) => other !== record && !isOver(other) && other.members[peerId]);
      if (shared.length > 0)
        this.#world.violate(
          "an agent works for one job",
          `${shared[0]!.slice(-2)} for ${id} and ${other.id}`,
        );
    }
    this.#checkQuota(record, had.length === 0);
  }

  /** It holds for what begins or grows. */
  #checkQuota({ id, spec: { project } }: JobRecord, isBeginning: boolean): void {
    const quota = this.#quotas.get(project);
    if (!quota) return;
    const sizes = [...this.#jobs.values()]
      .filter((job) => !isOver(job) && job.spec.project === project)
      .map(({ members }) => Object.keys(members).length)
      .filter((size) => size > 0);
    const agents = sizes.reduce((sum, size) => sum + size, 0);
    if (agents > (quota.agents ?? agents))
      this.#world.violate("quotas hold", `with ${id} ${project} has ${agents} of ${quota.agents} agents`);
    if (isBeginning && sizes.length > (quota.jobs ?? sizes.length))
      this.#world.violate("quotas hold", `with ${id} ${project} runs ${sizes.length} of ${quota.jobs} jobs`);
  }

  /** Only what it has beyond its gang is taken for others. */
  #checkYielding(before: JobRecord, { id, spec, yielding }: JobRecord): void {
    const asked = Object.keys(yielding).filter((peerId) => before.yielding[peerId] === undefined);
    if (asked.length === 0) return;
    this.reclaimed += asked.length;
    const steady = Object.keys(before.members).filter((peerId) => before.yielding[peerId] === undefined);
    if (steady.length - asked.length < spec.workers.min)
      this.#world.violate(
        "a running job keeps its gang",
        `${id} has ${steady.length}, of which ${asked.length} are to go, and needs ${spec.workers.min}`,
      );
  }
}
