import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { limits } from "../protocol/limits.ts";
import type { Clock } from "../protocol/ports.ts";

/**
 * Forks one of our own programs beside the agent. The child gets what a .ts program needs to start and the driver's
 * variables, but no debugger port, no test runner's loader and no secret of ours.
 */
export function forkProgram(
  url: URL,
  parameters: readonly string[],
  stderr: "inherit" | "pipe",
): ChildProcess {
  return fork(fileURLToPath(url), [...parameters], {
    serialization: "advanced",
    execArgv: process.execArgv.filter((argument) => keptExecArgument.test(argument)),
    env: childEnvironment(),
    stdio: ["ignore", "ignore", stderr, "ipc"],
  });
}

/** Ours without what is ours alone. */
export const childEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) => name !== "NODE_OPTIONS" && !name.startsWith("RINGFOLD_")),
  );

/** The last one is what a chaos run loads into each process that it measures. */
const keptExecArgument =
  /^--(experimental-strip-types|no-warnings|disable-warning=|max-old-space-size=|import=[^ ]*\/scripts\/chaos\/)/;

/** The part of a child process that its parent uses; the simulator has its own. */
export type ChildProgram = Pick<
  ChildProcess,
  "pid" | "connected" | "exitCode" | "signalCode" | "send" | "kill" | "on" | "once"
>;

/** Asks with `ask`, then ends the process by force after `limits.childExitTimeoutMs`. Resolves when it is gone. */
export async function endProgram(child: ChildProgram, ask: () => void, clock: Clock): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  ask();
  const cancelTimer = clock.after(limits.childExitTimeoutMs, () => child.kill("SIGKILL"));
  await gone;
  cancelTimer();
}
