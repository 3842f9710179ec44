import { homedir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { type Command, Option } from "commander";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";

/** What a command may touch of its process. */
export interface CommandIo {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly env: NodeJS.ProcessEnv;
  /** Set by a command that fails without an error. */
  readonly exitCode: { value: number };
}

/** The options that every command has. */
interface CommonOptions {
  readonly json: boolean;
  readonly debug: boolean;
  /** Base URLs of coordinators' HTTP APIs, with commas; true where only the word was given, which means something to `chaos` alone. */
  readonly coordinator: string | true;
  /** As given on the command line or in the environment; see operatorToken() for the file. */
  readonly operatorToken?: string;
}

export interface CommandContext {
  readonly io: CommandIo;
  readonly common: CommonOptions;
  /** Aborts on SIGINT and SIGTERM; a second signal ends the process at once. */
  readonly signal: AbortSignal;
  /** Writes one line about what goes on to stderr, so that stdout holds the result and nothing else. */
  note(line: string): void;
}

/** What a command answers: `json` in JSON mode, else `text`. */
export interface CommandResult {
  readonly json: unknown;
  readonly text: string;
}

/** Folder of everything that Ringfold keeps for this user on this machine. */
export const ringfoldHome = (env: NodeJS.ProcessEnv): string =>
  env.RINGFOLD_HOME || join(homedir(), ".ringfold");

export function addCommonOptions(program: Command, env: NodeJS.ProcessEnv): void {
  program
    .option("--json", "print one JSON document on stdout, errors too", false)
    .addOption(
      new Option(
        "--coordinator [url]",
        "the coordinator's HTTP address, or several with commas (env RINGFOLD_COORDINATOR)",
      ).default(env.RINGFOLD_COORDINATOR || "http://127.0.0.1:7070"),
    )
    .option(
      "--operator-token <token>",
      "who may change things (env RINGFOLD_OPERATOR_TOKEN, else the coordinator's file on this machine)",
    )
    .option("--debug", "print the cause of an error (env RINGFOLD_DEBUG=1)", env.RINGFOLD_DEBUG === "1");
}

/**
 * Runs the body of a command: SIGINT and SIGTERM abort its signal, its result is printed in the form that was asked
 * for, and an error becomes a message with its remedy and sets the exit code. Never rejects.
 *
 * @param command the command that commander is running; its options and the common ones are read from it
 * @param body gets its own options; returns nothing when there is nothing to print
 */
export async function runCommand<Options extends object>(
  command: Command,
  io: CommandIo,
  body: (context: CommandContext, options: Options) => Promise<CommandResult | undefined>,
): Promise<void> {
  const common = command.optsWithGlobals<CommonOptions>();
  const interrupt = new AbortController();
  const onSignal = (): void => {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    interrupt.abort(new RingfoldError("CANCELLED", "interrupted"));
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    assertNoStranger(command);
    const context: CommandContext = {
      io,
      common,
      signal: interrupt.signal,
      note: (line) => void io.stderr.write(`${printable(line)}\n`),
    };
    const result = await body(context, command.opts<Options>());
    if (result === undefined) return;
    io.stdout.write(`${common.json ? JSON.stringify(result.json) : printable(result.text).trimEnd()}\n`);
  } catch (cause) {
    io.exitCode.value = reportError(cause, { io, json: common.json, debug: common.debug });
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/** `jobs shwo`: a command that lists by itself and has others below it must not take a slip for nothing. */
function assertNoStranger(command: Command): void {
  if (command.registeredArguments.at(-1)?.variadic) return;
  const stranger = command.args[command.registeredArguments.length];
  if (stranger === undefined) return;
  const known = command.commands.map((below) => below.name()).join(", ");
  throw new RingfoldError("USAGE", `${command.name()} has no command '${stranger}', only ${known}`);
}

/** Prints an error for a person or a program. @returns its exit code */
export function reportError(
  cause: unknown,
  to: { readonly io: CommandIo; readonly json: boolean; readonly debug?: boolean },
): number {
  const error = toRingfoldError(cause);
  if (to.json) {
    const { code, message, remedy, data } = error;
    to.io.stdout.write(`${JSON.stringify({ error: { code, message, remedy, data } })}\n`);
  } else {
    to.io.stderr.write(printable(`ringfold: ${error.message.replaceAll("\n", "\n  ")}\n  ${error.remedy}\n`));
  }
  if (to.debug) to.io.stderr.write(printable(describeCauses(error)));
  return error.rule.exit;
}

/** The chain of causes with their stacks: for `--debug` only. */
function describeCauses(error: RingfoldError): string {
  const lines = [`debug: ${error.code} ${JSON.stringify(error.data)}`];
  let cause: unknown = error;
  // Bounded, as a chain of causes may bite its own tail.
  for (let depth = 0; depth < 8 && cause !== undefined; depth++) {
    lines.push(cause instanceof Error ? (cause.stack ?? cause.message) : String(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return `${lines.join("\ndebug: caused by ")}\n`;
}

/** Names, reasons and addresses come from other machines: none of them may drive the terminal. */
const printable = (text: string): string => text.replace(/[^\P{Cc}\n]/gu, "\u{fffd}");
