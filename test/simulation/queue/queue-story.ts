import { createHash } from "node:crypto";
import { isOver } from "../../../coordinator/decide/job-record.ts";
import { checkLeaks, checkLog, isClean, JobAudit } from "../checks/audit.ts";
import { Cluster } from "../cluster/cluster.ts";
import { Drive, guarded } from "../drive.ts";
import type { Mutation } from "../mutations.ts";
import { progressBoundMs } from "../scenario.ts";
import { World } from "../world/world.ts";
import { type Act, type Day, drawDay } from "./day.ts";
import { QueueWitness } from "./queue-witness.ts";

interface QueueOptions {
  readonly seed: number;
  readonly keepsLines?: boolean;
  readonly mutation?: Mutation;
}

interface QueueOutcome {
  readonly seed: number;
  /** What did not hold, or undefined. */
  readonly violation: string | undefined;
  readonly traceHash: string;
  readonly day: Day;
  readonly lines: readonly string[];
  readonly durationMs: number;
  readonly events: number;
  readonly commits: number;
  readonly gangs: number;
  readonly reclaimed: number;
}

/** An operator whose request got no answer asks again. */
const askAgainMs = 500;
/** So that jobs of some dozen steps still run when others come. */
const computeMs = { min: 10, max: 150 } as const;
/** After the end of the jobs their trainers must be gone within this time. */
const cleanUpBoundMs = 15_000;

/**
 * One seed: several jobs of unlike priority and size, in two projects with quotas, on more agents than any of them wants and fewer
 * than all want together; machines, trainers, disks, cables and the coordinator fail meanwhile. Then calm, in which every job that
 * fits must come to its end.
 */
export async function runQueueStory({
  seed,
  keepsLines = false,
  mutation,
}: QueueOptions): Promise<QueueOutcome> {
  const world = new World({ seed, keepsLines, tolerates: mutation?.tolerates });
  const day = drawDay(
    world.random,
    mutation?.faults && ((random, count) => [...mutation.faults!(random, count)]),
  );
  const story = new QueueStory(world, day, mutation);
  return guarded(world, mutation, async () => {
    await story.follow();
    return {
      ...{ seed, day, lines: world.lines, traceHash: world.traceHash },
      violation: world.violation?.message,
      durationMs: world.elapsedMs,
      events: world.scheduler.eventsRun,
      commits: story.cluster.witness.ledger.commits,
      gangs: story.queue.begun,
      reclaimed: story.queue.reclaimed,
    };
  });
}

class QueueStory {
  readonly cluster: Cluster;
  readonly queue: QueueWitness;
  readonly #world: World;
  readonly #day: Day;
  readonly #audits = new Map<string, JobAudit>();

  constructor(world: World, day: Day, mutation: Mutation | undefined) {
    this.#world = world;
    this.#day = day;
    this.cluster = new Cluster(world, { machineCount: day.machineCount, mutation, computeMs });
    this.queue = new QueueWitness(world);
    const { disk, witness } = this.cluster;
    disk.onApplied = (writes) => {
      witness.applied(writes);
      this.queue.applied(writes);
    };
  }

  async follow(): Promise<void> {
    const { cluster, queue } = this;
    const { scheduler } = this.#world;
    const { jobs, quotas, acts, faults } = this.#day;
    const drive = new Drive(this.#world, this);
    cluster.start();
    const isUp = () => cluster.host.coordinator !== undefined;
    await drive.until({ what: "the coordinator starts", ms: 5_000 }, isUp);
    for (const quota of quotas) this.#act({ kind: "quota", quota });
    for (const { atMs, spec } of jobs) scheduler.after(atMs, () => this.#submit(spec));
    for (const { atMs, act } of acts) scheduler.after(atMs, () => this.#act(act));
    const calmAtMs = cluster.schedule(faults);
    const actsEndMs = Math.max(calmAtMs, ...acts.map(({ atMs }) => atMs));
    scheduler.after(actsEndMs + 1, () => {
      for (const quota of quotas) this.#insist({ kind: "quota", quota });
    });
    const fitting = jobs.filter(({ fits }) => fits).map(({ spec }) => spec.name);
    const isDone = (name: string) => {
      const job = queue.job(name);
      return job !== undefined && isOver(job);
    };
    const ms = actsEndMs + progressBoundMs * fitting.length;
    await drive.until({ what: "the jobs end", ms }, () => fitting.every(isDone));
    cluster.calmDown();
    await drive.until({ what: "the trainers end", ms: cleanUpBoundMs }, () => isClean(cluster));
    if (this.#world.violation) return;
    checkLog(cluster);
    for (const name of fitting) this.#auditOf(queue.job(name)!.id).finish();
    checkLeaks(cluster);
  }

  look(): void {
    for (const { id } of this.queue.jobs()) this.#auditOf(id).look();
  }

  standing(): string {
    const peers = this.cluster.host.coordinator
      ?.peers()
      .map(({ peerId, state }) => `${peerId.slice(-2)} ${state}`);
    const jobs = [...this.queue.jobs()].map(({ id }) => `${id}: ${this.#auditOf(id).standing()}`);
    return [...jobs, `peers: ${peers?.join(", ")}`].join("\n  ");
  }

  #auditOf(jobId: string): JobAudit {
    const { spec } = [...this.queue.jobs()].find(({ id }) => id === jobId)!;
    const audit = this.#audits.get(jobId) ?? new JobAudit(this.cluster, spec, jobId);
    this.#audits.set(jobId, audit);
    return audit;
  }

  /** Again and again until it is acknowledged; the key makes it one job. */
  #submit(spec: Day["jobs"][number]["spec"]): void {
    const key = { key: spec.name, fingerprint: createHash("sha256").update(spec.name).digest("hex") };
    this.#untilDone(() => this.cluster.host.coordinator?.submitJob(spec, { key }));
  }

  #insist(act: Act): void {
    this.#untilDone(() => this.#ask(act));
  }

  /** Once: a coordinator that is down does not hear it, and a job that is over has no priority. */
  #act(act: Act): void {
    this.#world.trace(`operator ${JSON.stringify(act)}`);
    void this.#ask(act)?.catch(() => {});
  }

  #ask(act: Act): Promise<unknown> | undefined {
    const { coordinator } = this.cluster.host;
    if (act.kind === "quota") return coordinator?.setQuota(act.quota);
    const job = this.queue.job(act.job);
    return job && coordinator?.prioritiseJob(job.id, act.priority);
  }

  #untilDone(ask: () => Promise<unknown> | undefined): void {
    let isDone = false;
    const again = () => {
      if (isDone) return;
      this.#world.scheduler.after(askAgainMs, again);
      ask()?.then(
        () => {
          isDone = true;
        },
        () => {},
      );
    };
    again();
  }
}

/** What a person needs to see a failure again. */
export function describeQueueStory({ seed, violation, day, durationMs, traceHash }: QueueOutcome): string {
  const jobs = day.jobs.map(({ atMs, spec: { name, project, priority, workers } }) => {
    const { min, max, spares } = workers;
    return `  ${atMs.toFixed(0).padStart(6)} ms ${name} of ${project}, priority ${priority}, workers ${min}-${max}+${spares}`;
  });
  const acts = [
    ...day.acts.map(({ atMs, act }) => ({ atMs, what: act })),
    ...day.faults.map(({ atMs, fault }) => ({ atMs, what: fault })),
  ];
  return [
    `seed ${seed}: ${violation ?? "all properties held"}`,
    `  ${day.machineCount} machines, ${durationMs.toFixed(0)} ms, trace ${traceHash}, quotas ${JSON.stringify(day.quotas)}`,
    ...jobs,
    ...acts
      .toSorted((one, other) => one.atMs - other.atMs)
      .map(({ atMs, what }) => `  ${atMs.toFixed(0).padStart(6)} ms ${JSON.stringify(what)}`),
    `  again: npm run simulate -- --what queue --seed ${seed} --trace`,
  ].join("\n");
}
