import { isDeepStrictEqual } from "node:util";
import type { JobRecord } from "../../../coordinator/decide/job-record.ts";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { JobView } from "../../../protocol/messages/api.ts";
import type { Cluster } from "../cluster/cluster.ts";

/** Beats, ticks, and requests that are under way: far fewer than steps and reports. */
const timersMax = 16;
const isOver = (state: string | undefined): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled";

/** Looks at a job from outside: at what people see of it, now and then, and at its books when it is over. */
export class JobAudit {
  readonly #cluster: Cluster;
  readonly #spec: JobSpec;
  readonly #jobId: string;

  constructor(cluster: Cluster, spec: JobSpec, jobId: string) {
    this.#cluster = cluster;
    this.#spec = spec;
    this.#jobId = jobId;
  }

  /** As it is on disk, and the state before. */
  get #records(): readonly JobRecord[] {
    return this.#cluster.witness.appliedRecords(this.#jobId);
  }

  job(): JobView | undefined {
    return this.#cluster.host.coordinator?.view().jobs.find(({ id }) => id === this.#jobId);
  }

  isJobOver(): boolean {
    return isOver(this.#records.at(-1)?.state);
  }

  /** What is visible must be durable: the record in memory is that on disk, or the one before it. */
  look(): void {
    const { host, witness, world } = this.#cluster;
    const { coordinator } = host;
    if (!coordinator) return;
    const records = this.#records;
    if (records.length === 0) return;
    const view = coordinator.view();
    const job = view.jobs.find(({ id }) => id === this.#jobId);
    if (!job && records.length === 1) return; // on disk for a moment, and not yet acknowledged
    const isQueued = (job?.queuePosition ?? null) !== null;
    const told = (record: (typeof records)[number]) => text(record, isQueued);
    const visible = job ? text(job, isQueued) : "nothing";
    if (!records.some((record) => told(record) === visible))
      world.violate(
        "durable before visible",
        `memory has ${visible}, the disk ${records.map(told).join(" before ")}`,
      );
    for (const { name, version, digest } of view.versions)
      if (!witness.ledger.isRegistered(digest))
        world.violate("durable before visible", `version ${name}@${version} is not on disk`);
  }

  /** For a person: where everyone stands. */
  standing(): string {
    const record = this.#records.at(-1);
    const members = Object.values(record?.members ?? {}).map(
      ({ peerId, phase, point }) => `${peerId.slice(-2)} ${phase} ${point?.step}`,
    );
    const trainers = this.#cluster.witness
      .liveTrainers(this.#jobId)
      .map(({ peerId, pid, state }) => `${peerId.slice(-2)}/${pid} at ${state.step}`);
    return `${record?.state} (${record?.reason}), g${record?.plan?.generation}; members: ${members.join(", ")}; trainers: ${trainers.join(", ")}`;
  }

  /** It has succeeded, and what it says of itself is so. */
  finish(): void {
    const { witness, world, machines } = this.#cluster;
    const record = this.#records.at(-1)!;
    if (record.state !== "succeeded" || !record.result || !record.plan)
      return world.violate("progress", `the job has ${record.state}: ${record.reason}`);
    const { data } = this.#spec;
    const trainExamples = (data.source === "mnist" && data.trainExamples) || 0;
    const stepsPerEpoch = Math.ceil(trainExamples / this.#spec.batchSize);
    if (record.result.point.step !== stepsPerEpoch * this.#spec.epochs)
      world.violate("all steps are done", `ended at step ${record.result.point.step}`);
    const versions = witness.ledger.versionsOf(this.#jobId);
    if (versions.length !== 1 || record.version === null)
      world.violate("a job registers one version", `${versions.length} are on disk`);
    const { weights } = record.result;
    if (!machines.some(({ surroundings }) => surroundings.disk.has(weights)))
      world.violate("weights are durable before they are registered", `${weights} is nowhere`);
    witness.ledger.audit({
      ...{ jobId: this.#jobId, stepsPerEpoch, exampleCount: trainExamples },
      end: record.result.point,
      generation: record.plan.generation,
    });
  }
}

/** Nobody works for any job, and a coordinator is there that says so. */
export const isClean = ({ machines, host }: Cluster): boolean =>
  host.coordinator !== undefined && machines.every((machine) => machine.trainers().length === 0);

/** The decisions tell how the state came to be: replayed, they come to the same. */
export function checkLog({ disk, world }: Cluster): void {
  try {
    if (isDeepStrictEqual(replayLog(disk), recordedState(disk))) return;
    world.violate("the log tells the state", "replaying the decisions comes to another state");
  } catch (cause) {
    world.violate("the log tells the state", String(cause));
  }
}

/** When all is over. */
export function checkLeaks({ world, machines, host }: Cluster): void {
  for (const { name, pendingTimers } of [
    { name: "coordinator", pendingTimers: host.pendingTimers },
    ...machines,
  ])
    if (pendingTimers > timersMax) world.violate("nothing leaks", `${name} has ${pendingTimers} timers`);
}

/**
 * What was decided; a view may tell it in other words, and add what was measured since.
 * @param isQueued why it waits for agents follows from the records of all jobs, and is stored in none
 */
const text = (
  job: Pick<JobView, "state" | "reason" | "generations" | "version"> & {
    readonly checkpoints: readonly { readonly step: number; readonly hash: string }[];
  },
  isQueued: boolean,
): string => {
  const generations = job.generations.map(({ generation, ranks, startStep, reason, recoveryMs }) => [
    ...[generation, ranks, startStep, reason, recoveryMs],
  ]);
  const checkpoints = job.checkpoints.map(({ step, hash }) => [step, hash]);
  return JSON.stringify([job.state, isQueued ? "" : job.reason, generations, checkpoints, job.version]);
};
