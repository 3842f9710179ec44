import fc from "fast-check";
import { expect, test } from "vitest";
import type { QueueDecision } from "../../coordinator/decide/queue.ts";
import type { QueueAgent, QueueJob, QuotaRecord } from "../../coordinator/decide/queue-facts.ts";
import { agentId, queueAgent, queued, queueJob, workingJob } from "../fixtures/queue-facts.ts";

const agentCount = 6;

/** Few values of each, so that agents and jobs often match, and often do not. */
const room = fc.constantFrom("a", "b");
const offer = fc.record({
  ...{ scripts: fc.boolean(), flapping: fc.boolean(), usesGpu: fc.boolean() },
  engines: fc.subarray(["tensorflow", "webgpu"]),
  gpuMemoryBytes: fc.constantFrom(0, 8e9, 24e9),
  memoryBytes: fc.constantFrom(8e9, 16e9),
  cores: fc.constantFrom(2, 8),
  labels: fc.record({ room }, { requiredKeys: [] }),
});
const agents = fc
  .array(
    offer.map((facts) => ({ ...facts, gpuEngines: facts.engines })),
    { minLength: 1, maxLength: agentCount },
  )
  .map((all) => all.map((facts, i) => queueAgent(i + 1, facts)));

const asked = fc.record(
  {
    ...{ scripts: fc.constant(false), engine: fc.constantFrom("tensorflow", "webgpu") },
    gpuMemory: fc.constantFrom(8e9, 24e9),
    memory: fc.constant(16e9),
    cores: fc.constant(8),
    labels: fc.record({ room }),
  },
  { requiredKeys: ["scripts"] },
);

const wish = fc.record({
  gang: fc.integer({ min: 1, max: agentCount }),
  more: fc.nat(3),
  priority: fc.integer({ min: 4, max: 6 }),
  project: fc.constantFrom("vision", "text"),
  needs: fc.oneof(
    { weight: 1, arbitrary: fc.record({ scripts: fc.boolean() }) },
    { weight: 1, arbitrary: asked },
  ),
  barred: fc.uniqueArray(fc.integer({ min: 1, max: agentCount }), { maxLength: 1 }),
});
const wishesMax = 7;
const wishes = fc.array(wish, { minLength: 1, maxLength: wishesMax });

const jobOf = (
  { more, barred, ...rest }: typeof wish extends fc.Arbitrary<infer W> ? W : never,
  number: number,
) => queueJob(number, { ...rest, most: rest.gang + more, barred: barred.map(agentId) });

const bound = fc.option(fc.integer({ min: 0, max: agentCount }));
const quotas = fc
  .record({ agents: bound, jobs: bound })
  .map((of): QuotaRecord[] => [{ project: "vision", ...of }]);

/** Said anew, need by need: what the queue compares with is what is to be checked. */
function suits({ needs, barred }: QueueJob, agent: QueueAgent): boolean {
  const lacks = [
    needs.scripts && !agent.scripts,
    needs.engine !== undefined && !agent.engines.includes(needs.engine),
    needs.gpuMemory !== undefined && agent.gpuMemoryBytes < needs.gpuMemory,
    needs.gpuMemory !== undefined && needs.engine === undefined && !needs.scripts && !agent.usesGpu,
    needs.memory !== undefined && agent.memoryBytes < needs.memory,
    needs.cores !== undefined && agent.cores < needs.cores,
    needs.labels?.room !== undefined && agent.labels.room !== needs.labels.room,
  ];
  return !lacks.includes(true) && !barred.includes(agent.peerId);
}

const inOrder = (a: QueueJob, b: QueueJob) => b.priority - a.priority || a.number - b.number;

/** A cluster whose jobs begin, grow and shrink as the queue says. */
class Cluster {
  jobs: QueueJob[];
  readonly agents: readonly QueueAgent[];
  readonly quotas: readonly QuotaRecord[];
  /** Who has begun, oldest first. */
  readonly begun: string[] = [];

  constructor(jobs: QueueJob[], agents: readonly QueueAgent[], quotas: readonly QuotaRecord[]) {
    this.jobs = jobs;
    this.agents = agents;
    this.quotas = quotas;
  }

  decide(): QueueDecision {
    return queued(this.jobs, this.agents, { quotas: this.quotas });
  }

  /** One decision, checked and carried out. */
  turn(): void {
    const decision = this.decide();
    this.#check(decision);
    this.jobs = this.jobs.map((job) => {
      const back = decision.returns.get(job.id)?.peerIds ?? [];
      const members = [...job.members, ...(decision.grants.get(job.id) ?? [])].filter(
        (peerId) => !back.includes(peerId),
      );
      if (members.length > 0 && job.members.length === 0) this.begun.push(job.id);
      const surplus = members.slice(0, Math.max(0, members.length - job.gang));
      return { ...job, members, surplus, isUnderWay: members.length > 0 };
    });
  }

  end(id: string | undefined): void {
    this.jobs = this.jobs.filter((job) => job.id !== id);
  }

  #check({ grants, returns, waits }: QueueDecision): void {
    const taken = [...grants.values()].flat();
    const employed = [...taken, ...this.jobs.flatMap(({ members }) => members)];
    expect(new Set(employed).size).toBe(employed.length);
    const wrong = this.jobs.filter((job) => {
      const given = grants.get(job.id) ?? [];
      const size = job.members.length + given.length;
      const facts = given.map((peerId) => this.agents.find((agent) => agent.peerId === peerId)!);
      const back = returns.get(job.id)?.peerIds ?? [];
      return !(
        facts.every((agent) => suits(job, agent)) &&
        size <= job.most &&
        (given.length === 0 || size >= job.gang) &&
        waits.has(job.id) === size < job.gang &&
        (back.length === 0 || size - back.length >= job.gang)
      );
    });
    expect(wrong).toEqual([]);
    for (const { to, peerIds } of returns.values()) {
      const taker = this.jobs.find(({ id }) => id === to);
      const given = this.agents.filter(({ peerId }) => peerIds.includes(peerId));
      if (taker) expect(given.filter((agent) => !suits(taker, agent))).toEqual([]);
    }
    for (const { project, agents, jobs } of this.quotas) {
      const theirs = this.jobs.filter((job) => job.project === project);
      const sizes = theirs.map(({ id, members }) => members.length + (grants.get(id)?.length ?? 0));
      expect(sizes.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(agents ?? Number.POSITIVE_INFINITY);
      expect(sizes.filter((size) => size > 0).length).toBeLessThanOrEqual(jobs ?? Number.POSITIVE_INFINITY);
    }
  }
}

/** Some turns with jobs that come and end: what a queue looks like in the middle of a day. */
const day = fc.record({ agents, wishes, quotas, ends: fc.array(fc.nat(6), { maxLength: 6 }) });

function play({
  agents,
  wishes,
  quotas,
  ends,
}: typeof day extends fc.Arbitrary<infer D> ? D : never): Cluster {
  const cluster = new Cluster(
    wishes.map((wish, i) => jobOf(wish, i + 1)),
    agents,
    quotas,
  );
  for (const end of ends) {
    cluster.turn();
    cluster.end(cluster.begun.splice(end, 1)[0]);
  }
  return cluster;
}

test("no agent twice or without what is needed, no gang in part, no quota exceeded, whatever begins and ends", () => {
  fc.assert(fc.property(day, (story) => void play(story).turn()));
});

test("what a job gives back for another, that one can use: as many as let it begin, or none", () => {
  const gangs = fc.integer({ min: 1, max: agentCount });
  fc.assert(
    fc.property(agents, asked, gangs, (machines, needs, gang) => {
      const everybody = machines.map((_, i) => i + 1);
      const elastic = workingJob(1, everybody, { gang: 1 });
      const urgent = queueJob(2, { gang, needs, priority: 6 });
      const back = queued([elastic, urgent], machines).returns.get(elastic.id)?.peerIds ?? [];
      const usable = machines.filter(
        (agent) => suits(urgent, agent) && elastic.surplus.includes(agent.peerId),
      );
      expect(
        machines.filter(({ peerId }) => back.includes(peerId)).every((agent) => suits(urgent, agent)),
      ).toBe(true);
      expect(back).toHaveLength(usable.length < gang ? 0 : gang);
    }),
  );
});

test("the same facts in any order give the same decision", () => {
  fc.assert(
    fc.property(day, fc.infiniteStream(fc.nat()), (story, keys) => {
      const { jobs, agents, quotas } = play(story);
      const shuffled = <T>(all: readonly T[]) =>
        all
          .map((one) => ({ one, key: keys.next().value }))
          .sort((a, b) => a.key - b.key)
          .map(({ one }) => one);
      const { free: _, ...decision } = queued(jobs, agents, { quotas });
      const { free: __, ...other } = queued(shuffled(jobs), shuffled(agents), { quotas });
      expect(other).toEqual(decision);
    }),
  );
});

test("whether a job begins does not depend on those behind it", () => {
  fc.assert(
    fc.property(day, (story) => {
      const { jobs, agents, quotas } = play(story);
      const { grants } = queued(jobs, agents, { quotas });
      for (const job of jobs.filter(({ members }) => members.length === 0)) {
        const isBehind = (other: QueueJob) => other.members.length === 0 && inOrder(job, other) < 0;
        const without = queued(
          jobs.filter((other) => !isBehind(other)),
          agents,
          { quotas },
        );
        expect(without.grants.has(job.id)).toBe(grants.has(job.id));
      }
    }),
  );
});

test("every job that fits begins, while small ones of its priority keep coming", () => {
  fc.assert(
    fc.property(agents, wishes, quotas, (machines, all, bounds) => {
      const cluster = new Cluster(
        all.map((wish, i) => jobOf(wish, i + 1)),
        machines,
        bounds,
      );
      const [{ agents: agentBound, jobs: jobBound }] = bounds as [QuotaRecord];
      const fits = (job: QueueJob) =>
        machines.filter((agent) => suits(job, agent)).length >= job.gang &&
        (job.project === "text" || (job.gang <= (agentBound ?? job.gang) && jobBound !== 0));
      const awaited = new Set(cluster.jobs.filter(fits).map(({ id }) => id));
      const turnsMax = 2 * all.length * (machines.length + 1);
      for (let turn = 0; turn < turnsMax; turn++) {
        cluster.turn();
        for (const id of cluster.begun) awaited.delete(id);
        cluster.end(cluster.begun.shift());
        if (cluster.jobs.filter(({ members }) => members.length === 0).length < wishesMax + 4)
          for (const [i, project] of ["vision", "text"].entries())
            cluster.jobs.push(queueJob(100 + 2 * turn + i, { priority: 4, project }));
      }
      expect([...awaited]).toEqual([]);
    }),
    { numRuns: 200 },
  );
});
