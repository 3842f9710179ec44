import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import type {
  ClusterView,
  DeploymentView,
  JobView,
  PeerView,
  VersionView,
} from "../../../protocol/messages/api.ts";

/** Views as a coordinator would answer them; each test changes only what it is about. */

const peerIds = [
  "12D3KooWAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "12D3KooWBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
] as const;
const digest = "0123456789abcdef".repeat(4);

export const jobView = (changes: Partial<JobView> = {}): JobView => ({
  id: "job-1",
  spec: jobSpecSchema.parse({ name: "digits", model: { architecture: "cnn" }, data: { source: "mnist" } }),
  config: null,
  trial: null,
  state: "waiting",
  reason: "waits for 1 more worker: 1 of 2 present",
  priority: 5,
  queuePosition: null,
  submittedAtMs: 1_700_000_000_000,
  startedAtMs: null,
  endedAtMs: null,
  progress: null,
  generations: [],
  generationCount: 0,
  evaluations: [],
  checkpoints: [],
  evaluation: null,
  version: null,
  failure: null,
  ...changes,
});

export const generation = (
  number: number,
  startStep: number,
  reason: string,
): JobView["generations"][number] => ({
  generation: number,
  ranks: [...peerIds],
  startStep,
  reason,
  startedAtMs: 1_700_000_001_000,
  algorithm: "ring",
  predictedCommunicationMs: null,
  healed: [],
  recoveryMs: number === 1 ? null : 420,
});

export const progress = (step: number): NonNullable<JobView["progress"]> => ({
  step,
  totalSteps: 938,
  epoch: 0,
  loss: 0.25,
  accuracy: 0.925,
  samplesPerSecond: 6_400,
  communicationMs: 1.5,
  hiddenCommunicationMs: 4,
  sentBytes: 4_096,
  communicationShare: 0.12,
  worldSize: 2,
  stallBoundMs: 2_000,
  skippedSteps: 0,
});

export const succeeded = (changes: Partial<JobView> = {}): JobView =>
  jobView({
    state: "succeeded",
    reason: "all steps done",
    startedAtMs: 1_700_000_001_000,
    endedAtMs: 1_700_000_066_000,
    progress: progress(938),
    generations: [generation(1, 0, "2 workers present")],
    generationCount: 1,
    evaluation: { examples: 10_000, loss: 0.0543, accuracy: 0.9821, metrics: {} },
    version: "digits@1",
    ...changes,
  });

export const peerView = (changes: Partial<PeerView> = {}): PeerView => ({
  peerId: peerIds[0],
  name: "lab-1",
  roles: ["worker", "server"],
  state: "alive",
  flapping: false,
  release: "0.1.0",
  addresses: [],
  gatewayUrl: null,
  capabilities: {
    hostname: "lab-1",
    platform: "linux-x64",
    cpuModel: "cpu",
    cpuCount: 8,
    memoryBytes: 16e9,
    gpu: null,
    engine: "wasm",
    engineReason: "no GPU",
    gflops: 12.34,
    scripts: false,
    ...{ usableMemoryBytes: null, gpus: [], engines: [], labels: {} },
  },
  load: { cpu: 0.5, residentBytes: 250e6 },
  links: [],
  lastSeenMs: 1_700_000_000_000,
  ...changes,
});

export const versionView: VersionView = {
  name: "digits",
  version: 1,
  digest,
  weightsDigest: digest,
  weightsBytes: 220_000,
  accuracy: 0.9821,
  metrics: {},
  loss: 0.0543,
  parameterCount: 54_410,
  layerCount: 4,
  jobId: "job-1",
  createdAtMs: 1_700_000_000_000,
  signers: [],
  holders: [...peerIds],
  replicasWanted: 2,
  aliases: ["champion"],
};

export const manifest = {
  format: 1,
  name: "digits",
  model: {
    topology: {},
    inputShape: [28, 28, 1],
    outputShape: [10],
    parameterCount: 54_410,
    layers: [{ name: "dense", kind: "Dense", outputShape: [10], parameterCount: 54_090, multiplyAdds: 1 }],
  },
  weights: { digest, bytes: 220_000, format: "safetensors" },
  lineage: {
    jobId: "job-1",
    dataDigest: digest,
    seed: 7,
    steps: 938,
    parameterHash: digest,
    generations: 1,
    peers: [...peerIds],
    engines: ["wasm"],
    release: "0.1.0",
  },
  metrics: { accuracy: 0.9821, loss: 0.0543, further: {}, testExamples: 10_000 },
  createdAtMs: 1_700_000_000_000,
  signers: [],
} as const;

export const deploymentView = (changes: Partial<DeploymentView> = {}): DeploymentView => ({
  deployment: 1,
  name: "digits",
  version: 1,
  live: true,
  weight: null,
  shardCount: 1,
  replicaCount: 1,
  state: "loading",
  reason: "0 of 1 replicas ready",
  revision: 3,
  shards: [{ shardIndex: 0, fromLayer: 0, toLayer: 4, replicas: [{ peerId: peerIds[0], ready: false }] }],
  ...changes,
});

export const clusterView = (changes: Partial<ClusterView> = {}): ClusterView => ({
  name: "lab",
  nowMs: 1_700_000_000_000,
  release: "0.1.0",
  coordinator: { peerId: peerIds[0], term: 1, startedAtMs: 1_700_000_000_000 },
  peers: [],
  jobs: [],
  versions: [],
  deployments: [],
  sweeps: [],
  rollouts: [],
  events: [],
  ...changes,
});
