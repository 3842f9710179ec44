import { Command, CommanderError } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";

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
