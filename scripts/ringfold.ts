import { Command, CommanderError } from "commander";
import packageJson from "../package.json" with { type: "json" };
import { RingfoldError } from "../protocol/errors.ts";
import * as agent from "./commands/agent.ts";
import * as audit from "./commands/audit.ts";
import * as backup from "./commands/backup.ts";
import * as bench from "./commands/bench.ts";
import * as chaos from "./commands/chaos.ts";
import { addCommonOptions, type CommandIo, reportError } from "./commands/command.ts";
import * as coordinator from "./commands/coordinator.ts";
import * as data from "./commands/data.ts";
import * as deploy from "./commands/deploy.ts";
import * as doctor from "./commands/doctor.ts";
import * as documents from "./commands/documents.ts";
import * as generate from "./commands/generate.ts";
import * as jobs from "./commands/jobs.ts";
import * as models from "./commands/models.ts";
import * as peers from "./commands/peers.ts";
import * as predict from "./commands/predict.ts";
import * as quotas from "./commands/quotas.ts";
import * as rollout from "./commands/rollout.ts";
import * as run from "./commands/run.ts";
import * as sweep from "./commands/sweep.ts";
import * as sweeps from "./commands/sweeps.ts";
import * as token from "./commands/token.ts";
import * as train from "./commands/train.ts";
import * as translate from "./commands/translate.ts";
import * as up from "./commands/up.ts";
import { keepCompiledCode } from "./run/compile-cache.ts";

/**
 * Every command of `ringfold`, in the order of its help. A module registers names and options; whatever is heavy it
 * imports only when its command runs, so that `--help` stays quick.
 */
const commandModules: readonly { register(program: Command, io: CommandIo): void }[] = [
  up,
  coordinator,
  agent,
  data,
  documents,
  train,
  run,
  jobs,
  quotas,
  sweep,
  sweeps,
  peers,
  models,
  deploy,
  rollout,
  predict,
  generate,
  translate,
  token,
  doctor,
  audit,
  backup,
  chaos,
  bench,
];

function createProgram(io: CommandIo): Command {
  const program = new Command("ringfold")
    .description("Turns a few machines with GPUs into one training and serving cluster.")
    .version(packageJson.version)
    .configureHelp({ showGlobalOptions: true })
    // Mistakes on the command line leave through reportError like every other error, as text or JSON.
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  addCommonOptions(program, io.env);
  for (const commands of commandModules) commands.register(program, io);
  program.addHelpText("after", "\nExit codes and every option: docs/cli.md.");
  return program;
}

/** Runs one command line. @returns the exit code of the process */
async function main(userArguments: readonly string[], io: CommandIo): Promise<number> {
  const program = createProgram(io);
  try {
    await program.parseAsync(userArguments, { from: "user" });
    return io.exitCode.value;
  } catch (cause) {
    const json = userArguments.includes("--json");
    if (!(cause instanceof CommanderError)) return reportError(cause, { io, json });
    if (cause.exitCode === 0) return 0;
    if (cause.code === "commander.help" && !json) return new RingfoldError("USAGE", "no command").rule.exit;
    const message =
      cause.code === "commander.help" ? "no command was given" : cause.message.replace(/^error: /, "");
    return reportError(new RingfoldError("USAGE", message.replaceAll("\n", " ")), { io, json });
  }
}

const io: CommandIo = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  exitCode: { value: 0 },
};

// `ringfold jobs | head` closes our output early: that is the reader's right and no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

keepCompiledCode();
// Not process.exit: output must drain, and a handle left open by a command should be seen, not swept away.
process.exitCode = await main(process.argv.slice(2), io);
