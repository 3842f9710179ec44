import { AgentPool } from "./agent-pool.ts";
import { type AgentNeeds, type AgentOffer, keyOf } from "./needs.ts";
import type { QueueAgent, QueueJob, QuotaRecord } from "./queue-facts.ts";
import { type Obstacle, obstacleText } from "./queue-reasons.ts";

/**
 * Who may recruit whom, as a pure function of all jobs, agents and quotas. Higher priority goes first, then who was submitted first.
 *
 * 1. Jobs that are under way and have fewer than they need get what there is: they hold agents that train nothing meanwhile.
 * 2. Each job that waits begins with its whole gang, or reserves those idle agents that it can use, up to its gang. What is
 *    reserved is out of reach of every later job, so none delays an earlier one; what an earlier one cannot use is free for later
 *    ones. Reservations are made for every job that waits, not for the first alone: nothing is known of how long jobs take, so
 *    the gaps that backfilling fills by estimates (Slurm) are left empty here.
 * 3. What nobody needs for a beginning lets jobs grow up to what they can use.
 * 4. A job that waits gets back what running ones of lower priority have beyond their gang, if that is enough to begin.
 *
 * A job that does not fit reserves nothing: there are too few agents for it, idle or not, or its quota is too small. Else it would
 * stop the cluster for ever. Cost: O(jobs log); where a job wants agents also O(agents log), and a look at each for each kind of need.
 */
interface QueueWorld {
  readonly jobs: readonly QueueJob[];
  /** Read only where a job wants some. */
  readonly agents: readonly QueueAgent[];
  /** What they have, and those that were here and may come back. */
  readonly known: readonly AgentOffer[];
  /** By project. */
  readonly quotas: ReadonlyMap<string, QuotaRecord>;
  /** The coordinator has just started: agents that it does not know yet are on their way. */
  readonly gathering: boolean;
}

/** Agents that a job gives back; `to`: the job that they are for, null where it gives up an incomplete gang. */
interface GiveBack {
  readonly peerIds: readonly string[];
  readonly to: string | null;
}

export interface Wait {
  /** From 1. */
  readonly position: number;
  /** For people. */
  readonly reason: string;
}

export interface QueueDecision {
  /** By job, those that matter most first. */
  readonly grants: ReadonlyMap<string, readonly string[]>;
  readonly returns: ReadonlyMap<string, GiveBack>;
  readonly waits: ReadonlyMap<string, Wait>;
  /** What one more job could get at once: agents that suit it, within the quota of its project. */
  free(job: Pick<QueueJob, "needs" | "priority" | "project" | "most">): number;
}

export function decideQueue(world: QueueWorld): QueueDecision {
  const draft = new QueueDraft(world);
  const open = world.jobs.filter(({ isOpen }) => isOpen).sort(inOrder);
  for (const job of open) if (job.isUnderWay && job.members.length < job.gang) draft.refill(job);
  for (const job of open) if (!job.isUnderWay && job.members.length < job.gang) draft.begin(job);
  draft.disband();
  for (const job of open) draft.grow(job);
  draft.reclaim(open);
  return draft.decision();
}

const inOrder = (a: QueueJob, b: QueueJob): number => b.priority - a.priority || a.number - b.number;

interface Waiter {
  readonly job: QueueJob;
  readonly reserved: readonly string[];
  obstacle: Obstacle;
}

interface Usage {
  readonly agents: number;
  readonly jobs: number;
}
const nothing: Usage = { agents: 0, jobs: 0 };

/** A decision about the queue while it is made. */
class QueueDraft {
  readonly #world: QueueWorld;
  #agents: AgentPool | undefined;
  /** By project: what its jobs have. */
  readonly #usage = new Map<string, Usage>();
  /** By project: what those of its jobs that wait are to have; later ones must not take it. */
  readonly #claims = new Map<string, Usage>();
  readonly #grants = new Map<string, readonly string[]>();
  readonly #returns = new Map<string, GiveBack>();
  readonly #waiters: Waiter[] = [];
  /** By what it asks for: the first that waits for agents that others work on. */
  readonly #firstInLine = new Map<string, Waiter>();

  constructor(world: QueueWorld) {
    this.#world = world;
    for (const { members, project } of world.jobs)
      if (members.length > 0 && world.quotas.has(project))
        add(this.#usage, project, { agents: members.length, jobs: 1 });
  }

  /** Looked for when a job wants one: where every job has what it can use, a thousand agents cost nothing. */
  get #pool(): AgentPool {
    const { jobs, agents, known } = this.#world;
    this.#agents ??= new AgentPool(agents, known, new Set(jobs.flatMap(({ members }) => members)));
    return this.#agents;
  }

  /** All that there is, even where it is not enough: their trainers start meanwhile. */
  refill(job: QueueJob): void {
    const missing = job.gang - job.members.length;
    this.#grant(job, this.#pool.first(job, Math.min(missing, this.#agentsLeft(job.project))));
  }

  begin(job: QueueJob): void {
    const { gang, members, project } = job;
    const missing = gang - members.length;
    const quota = this.#world.quotas.get(project);
    if (quota && (gang > (quota.agents ?? gang) || quota.jobs === 0))
      return void this.#wait(job, [], { kind: "quota-too-small", quota, gang });
    const lack = this.#lack(job);
    // The missing may be on their way.
    if (lack && !this.#world.gathering) return void this.#wait(job, [], lack);
    const more = { agents: missing, jobs: members.length === 0 ? 1 : 0 };
    if (this.#agentsLeft(project) < more.agents || this.#jobsLeft(project) < more.jobs) {
      const obstacle = this.#quotaObstacle(job, more);
      add(this.#claims, project, more);
      return void this.#wait(job, [], obstacle);
    }
    const found = this.#pool.first(job, missing);
    if (found.length === missing && hasHolder(job, found)) return this.#grant(job, found);
    const reserved = found.slice(0, missing - (hasHolder(job, found) ? 0 : 1)); // a place for one who has the state
    this.#pool.take(reserved);
    add(this.#claims, project, more);
    this.#waitInLine(job, reserved, lack);
  }

  /** Agents of an incomplete gang work on nothing; they are kept only while nobody else waits. */
  disband(): void {
    if (this.#waiters.length < 2) return;
    for (const { job } of this.#waiters)
      if (job.members.length > 0) this.#returns.set(job.id, { peerIds: job.members, to: null });
  }

  grow(job: QueueJob): void {
    const has = job.members.length + (this.#grants.get(job.id)?.length ?? 0);
    if (has < job.gang || has >= job.most) return;
    this.#grant(job, this.#pool.first(job, Math.min(job.most - has, this.#agentsLeft(job.project))));
  }

  /** @param open in order */
  reclaim(open: readonly QueueJob[]): void {
    const lines = this.#waiters.filter(({ obstacle }) => obstacle.kind === "line");
    if (lines.length === 0) return;
    const coming = new Map(
      open.flatMap(({ id, yielding }) => yielding.map((peerId) => [peerId, id] as const)),
    );
    const surplus = open
      .filter(({ isUnderWay }) => isUnderWay)
      .toReversed()
      .flatMap(({ id, priority, surplus }) => surplus.map((peerId) => ({ id, priority, peerId })));
    for (const waiter of lines) {
      const { job, reserved } = waiter;
      if (coming.size === 0 && (surplus[0]?.priority ?? job.priority) >= job.priority) break;
      if (!hasHolder(job, reserved)) continue;
      const usable = (peerId: string) => this.#pool.suits(job.needs, peerId) && !job.barred.includes(peerId);
      const missing = job.gang - job.members.length - reserved.length;
      const arriving = [...coming].filter(([peerId]) => usable(peerId)).slice(0, missing);
      const more = missing - arriving.length;
      const theirs = surplus.filter(({ priority, peerId }) => priority < job.priority && usable(peerId));
      const taken = theirs.length < more ? [] : theirs.slice(0, more);
      for (const [peerId] of arriving) coming.delete(peerId);
      for (const one of taken) {
        surplus.splice(surplus.indexOf(one), 1);
        const before = this.#returns.get(one.id)?.peerIds ?? [];
        this.#returns.set(one.id, { peerIds: [...before, one.peerId], to: job.id });
      }
      if (arriving.length + taken.length < missing) continue;
      const from = [...new Set([...arriving.map(([, id]) => id), ...taken.map(({ id }) => id)])];
      waiter.obstacle = {
        kind: "line",
        missing: missing + reserved.length,
        ahead: undefined,
        reserved: reserved.length,
        needs: job.needs,
        from,
      };
    }
  }

  decision(): QueueDecision {
    const waits = new Map(
      this.#waiters.map(({ job, obstacle }, i) => [
        job.id,
        { position: i + 1, reason: obstacleText(obstacle) },
      ]),
    );
    const free: QueueDecision["free"] = ({ needs, priority, project, most }) => {
      // What is reserved for a job of lower priority is within reach.
      const within = this.#waiters.filter(({ job }) => job.priority < priority).flatMap((w) => w.reserved);
      const suited = within.filter((peerId) => this.#pool.suits(needs, peerId));
      const idle = this.#pool.idle(needs).length + suited.length;
      return Math.min(idle, this.#agentsLeft(project), most * this.#jobsLeft(project));
    };
    return { grants: this.#grants, returns: this.#returns, waits, free };
  }

  /** Why the cluster as it is has no place for the job, however long it waits. */
  #lack(job: QueueJob): Obstacle | undefined {
    const { gang, needs, holders, fromStep, leftOut } = job;
    const present = this.#pool.presentCount(job);
    if (present < gang) {
      const mayCome = present > 0 || this.#world.gathering;
      const whyNone = mayCome ? undefined : this.#pool.whyNone(needs);
      return { kind: "agents", present, gang, needs, whyNone, leftOut };
    }
    if (fromStep === null || holders.some((peerId) => this.#pool.suits(needs, peerId))) return undefined;
    return { kind: "holder", step: fromStep };
  }

  #waitInLine(job: QueueJob, reserved: readonly string[], lack: Obstacle | undefined): void {
    const key = keyOf(job.needs);
    const first = this.#firstInLine.get(key) ?? this.#whoKeeps(job.needs);
    const ahead = first && { ...aheadOf(first), reserved: first.reserved.length };
    const missing = job.gang - job.members.length;
    const facts = { missing, reserved: reserved.length, needs: job.needs, ahead };
    const line = { kind: "line", ...facts, from: [] } as const;
    const waiter = this.#wait(job, reserved, lack ?? line);
    this.#firstInLine.set(key, first ?? waiter);
  }

  /** The first that has reserved an agent which somebody else could use. */
  #whoKeeps(needs: AgentNeeds): Waiter | undefined {
    return this.#waiters.find(({ reserved }) => reserved.some((peerId) => this.#pool.suits(needs, peerId)));
  }

  #wait(job: QueueJob, reserved: readonly string[], obstacle: Obstacle): Waiter {
    const waiter = { job, reserved, obstacle };
    this.#waiters.push(waiter);
    return waiter;
  }

  #grant(job: QueueJob, peerIds: readonly string[]): void {
    if (peerIds.length === 0) return;
    this.#pool.take(peerIds);
    const isFirst = job.members.length === 0 && !this.#grants.has(job.id);
    add(this.#usage, job.project, { agents: peerIds.length, jobs: isFirst ? 1 : 0 });
    this.#grants.set(job.id, [...(this.#grants.get(job.id) ?? []), ...peerIds]);
  }

  /** @param more what the job would add */
  #quotaObstacle({ project, gang }: QueueJob, more: Usage): Obstacle {
    const quota = this.#world.quotas.get(project)!;
    const used = this.#usage.get(project) ?? nothing;
    const isFull = (limit: keyof Usage) =>
      used[limit] + more[limit] > (quota[limit] ?? Number.POSITIVE_INFINITY);
    const limit = isFull("jobs") ? "jobs" : isFull("agents") ? "agents" : null;
    const first = this.#waiters.find((waiter) => waiter.job.project === project && isInLine(waiter));
    return { kind: "quota", quota, used, gang, limit, ahead: first && aheadOf(first) };
  }

  #agentsLeft(project: string): number {
    return this.#left(project, "agents");
  }

  #jobsLeft(project: string): number {
    return this.#left(project, "jobs");
  }

  #left(project: string, limit: keyof Usage): number {
    const most = this.#world.quotas.get(project)?.[limit] ?? Number.POSITIVE_INFINITY;
    const used = (this.#usage.get(project) ?? nothing)[limit] + (this.#claims.get(project) ?? nothing)[limit];
    return Math.max(0, most - used);
  }
}

const add = (to: Map<string, Usage>, project: string, more: Usage): void => {
  const { agents, jobs } = to.get(project) ?? nothing;
  to.set(project, { agents: agents + more.agents, jobs: jobs + more.jobs });
};

const aheadOf = ({ job: { id, priority } }: Waiter) => ({ id, priority });

/** Whether one of these, or a member, has the state that the job goes on from. */
const hasHolder = ({ fromStep, members, holders }: QueueJob, peerIds: readonly string[]): boolean =>
  fromStep === null || [...members, ...peerIds].some((peerId) => holders.includes(peerId));

/** Whether it has a claim that later jobs of its project must respect. */
const isInLine = ({ obstacle }: Waiter): boolean => obstacle.kind === "line" || obstacle.kind === "quota";
