import { describe, expect, it } from "vitest";
import { clusterSchema, type Job, remainingMs, sortJobs } from "../../../dashboard/views.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";

const spec = jobSpecSchema.parse({
  name: "digits",
  model: { architecture: "mlp" },
  data: { source: "mnist" },
  batchSize: 100,
});

const progress = {
  step: 400,
  totalSteps: 1_000,
  epoch: 0.4,
  loss: 0.3,
  accuracy: 0.9,
  samplesPerSecond: 2_000,
  communicationMs: 1.5,
  hiddenCommunicationMs: 4,
  sentBytes: 4_096,
  communicationShare: 0.1,
  worldSize: 2,
  stallBoundMs: 2_000,
  skippedSteps: 0,
};

const job = (change: Partial<Job> = {}): Job => ({
  id: "job-1",
  spec,
  config: null,
  trial: null,
  state: "running",
  reason: "",
  priority: 5,
  queuePosition: null,
  submittedAtMs: 0,
  startedAtMs: 0,
  endedAtMs: null,
  progress,
  generations: [],
  generationCount: 0,
  evaluations: [],
  checkpoints: [],
  evaluation: null,
  version: null,
  failure: null,
  ...change,
});

const peerId = `12D3KooW${"Q".repeat(44)}`;
const cluster = (jobs: unknown[]) => ({
  name: "lab",
  nowMs: 1,
  release: "0.1.0",
  coordinator: { peerId, term: 1, startedAtMs: 0 },
  peers: [],
  jobs,
  versions: [],
  deployments: [],
  events: [],
});

describe("what the page reads", () => {
  it("shows a job whose loss is no longer a number, for JSON turns NaN into null", () => {
    const diverged = job({ state: "failed", progress: { ...progress, loss: Number.NaN } });
    const read = clusterSchema.safeParse(JSON.parse(JSON.stringify(cluster([diverged]))));
    expect(read.data?.jobs[0]?.progress?.loss).toBeNull();
  });

  it("refuses what is not a cluster", () => {
    expect(clusterSchema.safeParse({}).success).toBe(false);
    expect(clusterSchema.safeParse(cluster([{ id: "job-1" }])).success).toBe(false);
  });

  it("tells the time left from steps, batch size and speed", () => {
    expect(remainingMs(job())).toBe(30_000);
  });

  it("does not guess a time left without progress, speed or a running ring", () => {
    expect(remainingMs(job({ progress: null }))).toBeNull();
    expect(remainingMs(job({ progress: { ...progress, samplesPerSecond: 0 } }))).toBeNull();
    expect(remainingMs(job({ state: "reforming" }))).toBeNull();
  });

  it("puts jobs with work to do first, then the newest", () => {
    const jobs = [
      job({ id: "job-1", state: "succeeded", submittedAtMs: 1 }),
      job({ id: "job-2", state: "waiting", submittedAtMs: 2 }),
      job({ id: "job-3", state: "failed", submittedAtMs: 3 }),
    ];
    expect(sortJobs(jobs).map(({ id }) => id)).toEqual(["job-2", "job-3", "job-1"]);
  });
});
