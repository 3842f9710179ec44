/** Every bound and interval in one place, each with its reason. Units come last in the names. */

const kib = 1024;
const mib = 1024 * kib;

export const limits = {
  /** gossipsub refuses more than 4 MiB; facts about a peer are a few KB, so anything near this is an attack. */
  gossipMessageBytes: 64 * kib,
  /** Control requests carry specs, plans and reports; the largest is a TF.js topology. */
  controlMessageBytes: 4 * mib,
  /** One artefact chunk a message: large enough that framing is free, small enough to bound memory per transfer. */
  artefactChunkBytes: 1 * mib,
  /** Headroom for the envelope around an artefact chunk or a tensor. */
  envelopeBytes: 64 * kib,
  /** A tensor that travels between shards: 16 MiB is a batch of 32 at 128k activations. */
  tensorBytes: 16 * mib,
  /** Manifest of a data set: vocabularies and 64 characters for each of its chunks. It must pass the HTTP API too. */
  datasetManifestBytes: 3 * mib,
  /** Chunks of a data set that a trainer keeps in memory, encoded: the examples that are mixed at a time are 16 MiB as f32. */
  dataMemoryBytes: 256 * mib,
  /** A step that has to wait for chunks from peers may take this long; then the ring is formed anew. */
  dataWaitTimeoutMs: 30_000,
  /** A rank that cannot get a chunk from anyone for so long leaves the job, before the others take it for stalled. */
  dataMissingMs: 20_000,
  /** Between two looks at chunks that are held; one look takes 3 ms. */
  patrolPauseMs: 50,
  /** Between two rounds, and after one in which something was lacking. */
  ...{ patrolIntervalMs: 24 * 3_600_000, patrolRetryMs: 10_000 },
  /** Agents that hold each data set and the weights of each version, where there are so many; unless the coordinator is told. */
  replicas: 2,
  replicasMax: 16,
  /** Changes of what is held that a beat tells: more than checkpoints make in some lost beats, and 1.3 KB. */
  changesTold: 16,
  /** Digests in one page of the list of what an agent holds; 0.7 MB. */
  artefactsListed: 10_000,
  /** Of one peer; what is beyond is found only by asking for it. */
  artefactsKnownMax: 100_000,
  /** Lists that are asked for at a time, */
  listsAskedMax: 4,
  /** and how long after each other from one peer: one that changes faster than its beats tell is known so much later. */
  listAskAgainMs: 2_000,
  /** For `ringfold jobs retry`: a day for somebody to look. */
  checkpointsKeptMs: 24 * 3_600_000,
  /** How often people are told how far a rank is that waits for data. */
  dataProgressIntervalMs: 1_000,
  /** What a rank signs of its result, in base64; metrics are most of it. */
  statementBytes: 32 * kib,
  /** Ranks of one job that sign the same; the others' signatures add nothing. */
  signaturesKept: 16,
  /** An artefact (weights of one version). */
  artefactBytes: 8 * 1024 * mib,

  /** Presence is gossiped this often; the coordinator hears a socket close at once, so this is only the slow path. */
  heartbeatIntervalMs: 1_000,
  /** After a start: who has not been heard of for this long is not about to come back by itself. */
  heartbeatTimeoutMs: 5_000,
  /** How surely a silent peer is gone (coordinator/decide/suspicion.ts): it gets no new work, */
  suspicionPhi: 8,
  /** and later it counts as dead although its socket stands. */
  deathPhi: 16,
  /** Agents look for a coordinator that was away at most five seconds apart, on a busy machine ten: who has not come back until then may be dead. */
  gatheringMs: 10_000,
  /** Time that passes between two looks at the members counts as silence up to this: what is beyond was a pause of the coordinator's own. */
  attentionMs: 2_000,
  /** Members that one entry of the log names when many fall silent in one look. */
  judgedTold: 20,
  /** A peer that is gone this long leaves the peer list of the dashboard. */
  peerForgetMs: 120_000,

  /** Large enough to see a link of 1 Gbit/s above the noise of an event loop. */
  linkProbeBytes: 256 * kib,
  /** Between first looks at new members, and between later looks at known ones: 256 KiB in 10 s is nobody's load. */
  linkProbeFirstMs: 500,
  linkProbeIntervalMs: 10_000,
  /** Links in one presence message. */
  linksTold: 64,
  /** Deployments of which one tells what was answered: both sides of eight rollouts, 0.9 KB each at most. */
  servedTold: 16,

  requestTimeoutMs: 10_000,
  /** Starting a trainer process: Node, TF.js, data and an engine self-test; 2-4 s on an idle core, more on a busy one. */
  prepareTimeoutMs: 120_000,
  /** A script imports torch and loads its data in this time; less than the coordinator waits, so that the cause is named. */
  scriptReadyTimeoutMs: 110_000,
  /** What a script does after its last step; then its rank has finished without it. */
  scriptEndTimeoutMs: 60_000,
  /** A script that says nothing and uses no processor for so long hangs; one that computes may take so long for a step or an evaluation. */
  ...{ scriptStandingMs: 600_000, scriptSilentMs: 24 * 3_600_000 },
  /** To begin an answer about its state; the bytes of the state come on top, and 10 MB/s are slower than any disk that is used for it. */
  ...{ scriptAnswerTimeoutMs: 60_000, scriptStateBytesPerMs: 10_000 },
  /** What is kept of a script's log on its machine: the newest. */
  scriptLogBytes: 64 * mib,
  /** One piece of it on its way to people. */
  jobLogBytes: 256 * kib,
  scriptSourceBytes: 512 * kib,
  scriptMessageBytes: 4 * mib,
  /** Steps that the script of a rank alone runs ahead of what its agent has heard of: on a busy machine that is away for a tenth of a second. */
  scriptStepsAhead: 64,
  dialTimeoutMs: 5_000,
  /** A peer that sends, or takes, no whole frame for this long is stalled; the socket answers sooner if it died. */
  hopTimeoutMs: 15_000,
  /** A link on which nothing comes for this long is asked by the kernel whether it still stands: ten times, once a second. */
  linkKeepAliveMs: 10_000,
  /** In a step of the ring it is so many usual steps (agent/training/stall-bound.ts), */
  stallSteps: 8,
  /** but no less: a process that waits for a core on a busy machine was seen to be away for a second. */
  stallMsMin: 2_000,
  /** As long as no step was seen; the first one compiles what the others run. */
  firstStepTimeoutMs: 60_000,
  /** A state is healed in blocks of this size: small enough that a slow source holds up little, */
  stateBlockBytes: 1 * mib,
  /** asked for so far ahead that a source never waits for us, */
  stateBlocksAhead: 4,
  /** and from so many sources at once: each holds a copy of the state meanwhile. */
  stateSourcesMax: 4,
  /** A state of this size is given away by a thread of its own: starting one takes 0.2 s of a core. */
  stateThreadBytes: 8 * mib,
  /** A rank that heals keeps the sums of steps until the state has arrived: as many bytes, and at least so many rounds; then all wait for it. */
  catchUpBytesMax: 2 * 1024 * mib,
  catchUpRoundsMin: 4,
  /** Ring links of one generation: every neighbour was asked at the same time, so they dial within this. */
  rendezvousTimeoutMs: 10_000,
  /** Connections to a data plane that were not let in yet: a whole world may dial one source of state at once. */
  guestsMax: 256,
  /** Children get this long to close by themselves before SIGKILL. */
  childExitTimeoutMs: 5_000,

  /** Ahead of each segment. */
  frameHeaderBytes: 64,
  /** Segments of an encrypted ring: 64 KiB less a header keeps a segment in four TLS records (MEASURED, section C). */
  segmentBytes: 65_344,
  /** Of one rank in flight; 8 to 24 are alike, 48 no longer stay in the cache (docs/ring.md). */
  segmentWindow: 16,
  /** On plain links larger ones cost a tenth less processor time, and 4 of them stay in the cache as well. */
  segmentBytesPlain: 130_880,
  segmentWindowPlain: 4,
  /**
   * Links with latency have a wider window (segment-flow.ts), as far as it fits in so much: 20 ms at 0.8 GB/s. Pages that
   * no segment lies in cost nothing.
   */
  slotBytesMax: 16 * mib,
  /** For which they have it at least: on a long link a probe of 256 KiB measures how TCP starts, not what the link carries. */
  linkBytesPerSecondSupposed: 500e6,
  /** Gradients of this size go round piece by piece while the rest is computed: below, there is nothing to hide (docs/ring.md). */
  overlapBytesMin: 4 * mib,
  /** A bucket is at least so long, */
  bucketBytesMin: 1 * mib,
  /** and there are at most so many: on long ones the ring is as fast as on the whole. */
  bucketsMax: 16,
  /** Operations that wait for their turn in a ring: the buckets of a step, and some. */
  ringOperationsMax: 32,
  /**
   * One AES-GCM key carries 2^24.5 records of 16 KiB (RFC 8446, section 5.5): 388 GB. Node cannot change the key of a
   * connection, so the ring is formed anew well before.
   */
  tlsKeyBytesMax: 256e9,
  /** Where a link's bytes arrive: four of the largest frames, so that a whole one fits in a quarter. */
  receiveRegionBytes: 512 * kib,

  pendingPredictMax: 256,
  predictTimeoutMs: 10_000,
  /** A prediction that finds no replica waits this long for a newer placement: an agent that came back loads in less. */
  placementGraceMs: 1_000,
  hopAttemptsMax: 4,
  predictBodyBytes: 16 * mib,
  httpBodyBytes: 4 * mib,

  /** With `nonFinite: skip`: a model that is lost gives such numbers for ever, a bad batch once or twice. */
  skippedInRowMax: 10,

  /** A leading coordinator renews its lease five times in this; who waits leads at most so long after it has died. */
  leaseSeconds: 3,
  /** How often who waits tries to lead. */
  leaderLookMs: 250,

  worldSizeMax: 256,
  /** Of a model that is trained by layers: more would wait for each other longer than they compute. */
  stagesMax: 64,
  /** Checkpoints of one job that an agent tells of, the newest; and jobs that it tells of when it comes. */
  heldCheckpointsMax: 24,
  heldJobsMax: 64,
  concurrentInboundRequestsMax: 64,
  knownPeersMax: 4_096,
  lossCurvePointsMax: 2_000,
  eventsKeptMax: 500,
  /** Readers of the coordinator's events at once: open pages and followed jobs. */
  eventStreamsMax: 256,
  /** Requests with an Idempotency-Key that are known when they come again: days of submitting, at 300 bytes each. */
  requestKeysKept: 4_096,
  /** How often retention rules are looked at for what time has changed, or the end of a job: they count in days. */
  retentionLookMs: 30_000,
  /** Pipelines and job configurations that are registered, and bytes of them; a job file is about 1 KB, one with a script as large as that. */
  documentsMax: 10_000,
  documentsBytesMax: 256 * mib,
  /** Up to this one is written with the work that goes by it, twice as everything in the log is; a larger one in a write of its own. */
  documentBytesAlong: 96 * kib,
  /** Decisions that the coordinator's log keeps word for word; a few hundred bytes each. */
  decisionsKept: 10_000,
  /** Records in one write: etcd takes 128 operations in a transaction (`--max-txn-ops`), of which the log and the fence have some. */
  storeWritesMax: 120,
  /** Of one write: etcd takes 1.5 MiB in a request (`--max-request-bytes`), names and overhead included. */
  storeWriteBytesMax: 1.25 * 1024 ** 2,
} as const;

if (limits.ringOperationsMax <= limits.bucketsMax)
  throw new Error("the buckets of a step wait for their turn");
if (limits.dataMissingMs >= limits.dataWaitTimeoutMs) throw new Error("the others would end the ring first");
if (limits.gossipMessageBytes > 4 * mib) throw new Error("gossipsub would refuse such a message");
if (limits.heartbeatTimeoutMs < 3 * limits.heartbeatIntervalMs)
  throw new Error("one lost beat must not be a death");
