import { Command, CommanderError } from "commander";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";

/**
 * The command line of a benchmark that is a script of its own: `--json`, `--help`, and what `declare` adds.
 * @returns its options, or undefined when help was asked for and shown
 * @throws RingfoldError USAGE
 */
export function parseBenchOptions<Flags>(
  name: string,
  declare: (command: Command) => Command,
): (Flags & { readonly json: boolean }) | undefined {
  const command = declare(new Command(name))
    .option("--json", "one JSON value on stdout", false)
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  try {
    return command.parse().opts<Flags & { json: boolean }>();
  } catch (cause) {
    if (!(cause instanceof CommanderError)) throw cause;
    if (cause.exitCode === 0) return undefined;
    throw new RingfoldError("USAGE", cause.message.replace(/^error: /, ""));
  }
}

/** Runs a benchmark to its end; what goes wrong is told in a line and its remedy, and is the exit code. */
export async function runBench(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (cause) {
    const error = toRingfoldError(cause);
    process.stderr.write(`${error.message}\n  ${error.remedy}\n`);
    process.exitCode = error.rule.exit;
  }
}
