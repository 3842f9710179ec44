import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import { type ErrorData, errorRules, RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import type { ChaosLength, ChaosModules } from "../chaos/chaos-run.ts";
import { type SignalChoice, signalChoices } from "../chaos/fault-dice.ts";
import { duration, positiveInteger } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface ChaosCommandOptions {
  readonly minutes?: number;
  readonly kills?: number;
  /** Seconds. */
  readonly killEvery: number;
  readonly agents: number;
  readonly job?: string;
  readonly signal: SignalChoice;
  readonly seed?: number;
  readonly keep: boolean;
}

const digitsJobPath = fileURLToPath(new URL("../../examples/digits/job.yaml", import.meta.url));
/** Two agents and a ring of one is the smallest run in which anything can be lost. */
const agentsMin = 2;
/** Of `--coordinator`, unless told. */
const coordinatorMinutes = 5;

export function register(program: Command, io: CommandIo): void {
  program
    .command("chaos")
    .description(
      "train on a cluster of this machine while its agents are killed and restarted, and check everything",
    )
    .option(
      "--minutes <count>",
      "how long agents are killed; the job's own length unless told",
      positiveInteger,
    )
    .addOption(
      new Option("--kills <count>", "instead: so many, each as soon as the ring is whole again")
        .argParser(positiveInteger)
        .conflicts(["minutes"]),
    )
    .option("--kill-every <time>", "for example 15s", duration, 15)
    .option("--agents <count>", "how many agents", positiveInteger, 4)
    .option("--job <file>", "what to train; the digits example unless told")
    .addOption(
      new Option("--signal <kind>", "kill (SIGKILL), stop (SIGSTOP) or mixed")
        .choices(signalChoices)
        .default("kill"),
    )
    .option("--keep", "keep the logs of all processes, even when all went well", false)
    .option("--seed <number>", "repeats the choices of another run", positiveInteger)
    .addHelpText(
      "after",
      "\nWith --coordinator, and no address, the coordinator is killed instead, while agents train and serve.",
    )
    .action((_options: unknown, command: Command) =>
      runCommand<ChaosCommandOptions>(command, io, (context, options) => chaos(context, options)),
    );
}

async function chaos(context: CommandContext, options: ChaosCommandOptions): Promise<CommandResult> {
  const { io, signal, note } = context;
  const strikesCoordinator = context.common.coordinator === true;
  const { kills, seed, signal: fault } = options;
  if (strikesCoordinator && (kills !== undefined || seed !== undefined || fault !== "kill"))
    throw new RingfoldError("USAGE", "--coordinator goes without --kills, --signal and --seed");
  const { assertProcessesCanBeCounted } = await import("../chaos/processes.ts");
  const { collectOnSignal } = await import("../chaos/resource-monitor.ts");
  const { readJobFile } = await import("../job-file.ts");
  const { LocalCluster } = await import("../local-cluster/local-cluster.ts");
  const { createJobProgress } = await import("./follow/job-progress.ts");
  assertProcessesCanBeCounted();
  if (options.agents < agentsMin) throw new RingfoldError("USAGE", `--agents: at least ${agentsMin}`);
  const job = await readJobFile(options.job ?? digitsJobPath);
  const workers = { min: Math.min(job.workers.min, options.agents - 1), max: options.agents, spares: 0 };
  const folder = await mkdtemp(join(tmpdir(), "ringfold-chaos-"));
  const cluster = new LocalCluster({ folder, signal, nodeOptions: [collectOnSignal] });
  let progress = createJobProgress({ stream: io.stderr, note, nowMs: Date.now });
  let shownJob = "";
  const onView = (job: JobView) => {
    // Each job is told from its first generation on.
    if (job.id !== shownJob) {
      progress.close();
      progress = createJobProgress({ stream: io.stderr, note, nowMs: Date.now });
    }
    shownJob = job.id;
    progress.update(job);
  };
  let keepLogs = false;
  try {
    const strike = strikesCoordinator ? strikeCoordinator : strikeAgents;
    const outcome = await strike(options, { ...job, workers }, { cluster, folder, signal, note, onView });
    progress.close();
    const { report, text, failures } = outcome;
    keepLogs = options.keep || failures.length > 0;
    if (failures.length === 0) return { json: report, text };
    io.exitCode.value = errorRules.JOB_FAILED.exit;
    const error = new RingfoldError("JOB_FAILED", failures.join("; "), { ...outcome.data, folder });
    const { code, message, remedy, data } = error;
    return { json: { ...report, error: { code, message, remedy, data } }, text };
  } catch (cause) {
    keepLogs = !signal.aborted;
    throw cause;
  } finally {
    progress.close();
    await cluster.stop();
    if (keepLogs) note(`the logs of all processes are in ${folder}`);
    else await rm(folder, { recursive: true, force: true });
  }
}

/** What a run has come to, whoever was killed in it. */
interface Outcome {
  readonly report: object;
  readonly text: string;
  /** Invariants that did not hold. */
  readonly failures: readonly string[];
  readonly data: ErrorData;
}

async function strikeAgents(
  options: ChaosCommandOptions,
  spec: JobSpec,
  modules: ChaosModules,
): Promise<Outcome> {
  const { chaosText } = await import("../chaos/chaos-text.ts");
  const { runChaos } = await import("../chaos/chaos-run.ts");
  const report = await runChaos(
    {
      spec,
      agentCount: options.agents,
      length: lengthOf(options),
      everyMs: 1_000 * options.killEvery,
      signal: options.signal,
      seed: options.seed ?? Math.floor(Math.random() * 2 ** 31),
    },
    modules,
  );
  const failures = report.failures.map(({ message }) => message);
  return { report, text: chaosText(report), failures, data: { seed: report.seed } };
}

async function strikeCoordinator(
  options: ChaosCommandOptions,
  spec: JobSpec,
  modules: ChaosModules,
): Promise<Outcome> {
  const { runCoordinatorChaos } = await import("../chaos/coordinator-run.ts");
  const { coordinatorChaosText } = await import("../chaos/coordinator-text.ts");
  const { agents, killEvery, minutes = coordinatorMinutes } = options;
  const length = { durationMs: 60_000 * minutes, everyMs: 1_000 * killEvery };
  const report = await runCoordinatorChaos({ spec, agentCount: agents, ...length }, modules);
  return { report, text: coordinatorChaosText(report), failures: report.brokenInvariants, data: {} };
}

function lengthOf({ minutes, kills }: ChaosCommandOptions): ChaosLength {
  if (kills !== undefined) return { kind: "faults", count: kills };
  if (minutes !== undefined) return { kind: "time", durationMs: 60_000 * minutes };
  return { kind: "job" };
}
