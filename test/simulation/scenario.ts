import { type JobSpec, jobSpecSchema } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { checkLeaks, checkLog, isClean, JobAudit } from "./checks/audit.ts";
import { Cluster } from "./cluster/cluster.ts";
import { Drive, guarded } from "./drive.ts";
import { drawCuts, drawFaults, drawRestarts, drawStagedFaults, type ScheduledFault } from "./faults.ts";
import type { Mutation } from "./mutations.ts";
import type { Randomness } from "./world/randomness.ts";
import { World } from "./world/world.ts";

export interface ScenarioOptions {
  readonly seed: number;
  /** Keep the newest lines of the trace. */
  readonly keepsLines?: boolean;
  /** The model is cut into stages. */
  readonly isStaged?: boolean;
  /** Nothing happens but that the coordinator dies, or ends, and comes back; or that it is cut off from all others. */
  readonly only?: keyof typeof drawsOfCoordinator;
  /** Instead of those that are drawn: what happens, and how many work for the job. */
  readonly faults?: NonNullable<Mutation["faults"]>;
  readonly workers?: JobSpec["workers"];
  /** A bug to plant. */
  readonly mutation?: Mutation;
}

export interface Outcome {
  readonly seed: number;
  /** As the command line calls it. */
  readonly what: string;
  /** What did not hold, or undefined. */
  readonly violation: string | undefined;
  readonly traceHash: string;
  readonly faults: readonly ScheduledFault[];
  readonly spec: JobSpec;
  readonly machineCount: number;
  readonly lines: readonly string[];
  /** Virtual time until the job was over. */
  readonly durationMs: number;
  readonly events: number;
  readonly commits: number;
  readonly generations: number;
  /** Of each generation. */
  readonly reasons: readonly string[];
}

/** After the last fault is mended, a job must be over within this much virtual time. */
export const progressBoundMs = 60_000;
/** After the end of the job, its trainers must be gone within this time. */
const cleanUpBoundMs = 15_000;
/** So that a coordinator may be away for long while a ring trains. */
const slowComputeMs = { min: 100, max: 1_200 } as const;

const drawsOfCoordinator = { restarts: drawRestarts, cuts: drawCuts } as const;

/** One seed: a cluster, a job, a schedule of faults; then calm, in which the job must come to its end. */
export async function runScenario(options: ScenarioOptions): Promise<Outcome> {
  const world = new World({
    ...{ seed: options.seed, keepsLines: options.keepsLines ?? false },
    tolerates: options.mutation?.tolerates,
  });
  const machineCount = world.random.integer(2, 5);
  const drawn = (options.isStaged ? drawStagedSpec : drawSpec)(world.random, machineCount);
  const spec = options.workers ? { ...drawn, workers: options.workers } : drawn;
  const draw = options.faults ?? options.mutation?.faults ?? drawOf(options);
  const faults = draw(world.random.fork(), machineCount);
  const cluster = new Cluster(world, {
    ...{ machineCount, mutation: options.mutation },
    ...(options.only ? { computeMs: slowComputeMs } : {}),
  });
  cluster.witness.expectsSteadyRings = options.only !== undefined;
  return guarded(world, options.mutation, async () => {
    const job = await follow(cluster, spec, faults);
    return {
      ...{ seed: options.seed, what: whatOf(options), faults, spec, machineCount },
      ...{ lines: world.lines, traceHash: world.traceHash },
      violation: world.violation?.message,
      durationMs: world.elapsedMs,
      events: world.scheduler.eventsRun,
      commits: cluster.witness.ledger.commits,
      generations: job?.generationCount ?? 0,
      reasons: job?.generations.map(({ reason }) => reason) ?? [],
    };
  });
}

const drawOf = ({ isStaged, only }: ScenarioOptions) =>
  only ? drawsOfCoordinator[only] : isStaged ? drawStagedFaults : drawFaults;

const whatOf = ({ isStaged, only }: ScenarioOptions): string => (isStaged ? "stages" : (only ?? "cluster"));

async function follow(
  cluster: Cluster,
  spec: JobSpec,
  faults: readonly ScheduledFault[],
): Promise<JobView | undefined> {
  const { world } = cluster;
  const audit = new JobAudit(cluster, spec, "job-1");
  const drive = new Drive(world, audit);
  cluster.start();
  await drive.until(
    { what: "the coordinator starts", ms: 5_000 },
    () => cluster.host.coordinator !== undefined,
  );
  let submitted: JobView | undefined;
  void cluster.host.coordinator?.submitJob(spec).then((view) => {
    submitted = view;
  });
  await drive.until({ what: "the job is submitted", ms: 5_000 }, () => submitted !== undefined);
  const calmAtMs = cluster.schedule(faults);
  await drive.until({ what: "the job ends", ms: calmAtMs + progressBoundMs }, () => audit.isJobOver());
  cluster.calmDown();
  await drive.until({ what: "the trainers end", ms: cleanUpBoundMs }, () => isClean(cluster));
  if (!world.violation) {
    checkLog(cluster);
    audit.finish();
    checkLeaks(cluster);
  }
  return audit.job();
}

export function drawSpec(random: Randomness, machineCount: number): JobSpec {
  const exampleCount = random.integer(15, 40);
  const batchSize = random.integer(4, 12);
  const stepsPerEpoch = Math.ceil(exampleCount / batchSize);
  return jobSpecSchema.parse({
    name: "simulated",
    model: { architecture: "mlp", hidden: [] },
    data: { source: "mnist", trainExamples: exampleCount },
    optimizer: random.pick([
      { kind: "adam", learningRate: 0.01 },
      { kind: "sgd", learningRate: 0.1, momentum: 0.9 },
    ]),
    batchSize,
    epochs: Math.ceil(random.integer(30, 60) / stepsPerEpoch),
    workers: { min: random.integer(1, 2), max: machineCount, spares: 0 },
    seed: random.integer(1, 1_000),
    checkpoint: { everySteps: random.integer(1, 12) },
    engine: "cpu",
    ...drawExchange(random),
  });
}

/** Of so many stages that one machine may be lost for ever, where more than two are there. */
function drawStagedSpec(random: Randomness, machineCount: number): JobSpec {
  return jobSpecSchema.parse({
    ...drawSpec(random, machineCount),
    ...{ synchronization: undefined, topK: undefined },
    stages: random.integer(2, Math.max(2, Math.min(3, machineCount - 1))),
    microBatchSize: random.integer(1, 5),
    ...random.pick<object>([{}, { clipNorm: 0.5 }, { evaluation: { everySteps: random.integer(3, 9) } }]),
  });
}

/** Every other job meets at every step, the others take some of their own in between; a third of them sums in pairs. */
function drawExchange(random: Randomness): object {
  const everySteps = random.integer(2, 8);
  return {
    synchronization: random.pick([
      { kind: "every-step" },
      { kind: "every-step" },
      { kind: "averaging", everySteps },
      { kind: "diloco", everySteps },
    ]),
    ...random.pick<object>([
      {},
      {},
      { allReduce: "doubling" },
      { allReduce: "doubling" },
      { wire: "int8" },
      { topK: { fraction: 0.1 } },
    ]),
  };
}

/** What a person needs to see a failure again. */
export function describeOutcome(outcome: Outcome): string {
  const { seed, what, violation, machineCount, spec, faults, durationMs, traceHash } = outcome;
  return [
    `seed ${seed}: ${violation ?? "all properties held"}`,
    `  ${machineCount} machines, workers ${spec.workers.min}-${spec.workers.max}, ${durationMs.toFixed(0)} ms, trace ${traceHash}`,
    ...faults.map(({ atMs, fault }) => `  ${atMs.toFixed(0).padStart(6)} ms ${JSON.stringify(fault)}`),
    `  again: npm run simulate -- --what ${what} --seed ${seed} --trace`,
  ].join("\n");
}
