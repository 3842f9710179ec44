import { AgentPool } from "../../../coordinator/decide/agent-pool.ts";
import { JobQueue } from "../../../coordinator/job-queue.ts";
import { JobTable } from "../../../coordinator/job-table.ts";
import { QuotaDesk } from "../../../coordinator/quota-desk.ts";
import { badWeather, believes, type Mutation, replacing } from "../mutations.ts";

/** Bugs between jobs that share a cluster; those within one are in ../mutations.ts. */
export const queueMutations: readonly Mutation[] = [
  {
    name: "a gang begins with one agent less",
    shows: /^gangs begin whole/,
    plant: replacing(
      JobQueue.prototype,
      "decide",
      (original) =>
        function (this: JobQueue) {
          const decision = original.call(this);
          const grants = [...decision.grants].map(([id, peerIds]) => [id, peerIds.slice(0, -1)] as const);
          return { ...decision, grants: new Map(grants.filter(([, { length }]) => length > 0)) };
        },
    ),
  },
  {
    name: "an agent that was given away is given away again",
    shows: /^an agent works for one job/,
    plant: () => {
      const uproot = [
        replacing(AgentPool.prototype, "take", () => () => {})(),
        replacing(JobTable.prototype, "isEmployed", () => () => false)(),
      ];
      return () => {
        for (const each of uproot) each();
      };
    },
  },
  {
    name: "quotas are forgotten",
    shows: /^quotas hold/,
    plant: replacing(QuotaDesk.prototype, "all", () => () => new Map()),
  },
  {
    name: "one agent more is taken back than a job can spare",
    shows: /^a running job keeps its gang/,
    faults: () => [],
    plant: replacing(
      JobTable.prototype,
      "open",
      (original) =>
        function* (this: JobTable) {
          for (const job of original.call(this)) {
            const { workers } = job.spec;
            const isWhole = job.plan !== null && Object.keys(job.members).length >= workers.min;
            const min = isWhole ? Math.max(1, workers.min - 1) : workers.min;
            yield { ...job, spec: { ...job.spec, workers: { ...workers, min } } };
          }
        },
    ),
  },
  {
    name: "a survivor reports the step before its last one",
    shows: /^(progress|no finished step is lost)/,
    faults: (random, machineCount) =>
      Array.from({ length: machineCount }, (_, i) => ({
        atMs: random.real(1_500, 9_000),
        fault: { kind: "kill-trainer", machine: i - (i % 2) },
      })),
    changeReport: (report) =>
      report.kind === "ended"
        ? { ...report, point: { ...report.point, step: Math.max(0, report.point.step - 1) } }
        : report,
  },
  {
    name: "agents that did not hear that a job has ended are not told again",
    shows: /^progress: the trainers end/,
    faults: (random) => [
      { atMs: 0, fault: { kind: "weather", weather: badWeather, forMs: random.real(10_000, 20_000) } },
    ],
    wrapRequest: believes("/stop/", "coordinator"),
  },
];
