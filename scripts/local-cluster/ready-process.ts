import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type ErrorCode, isErrorCode, RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { smallHeapOptions } from "../run/small-heap.ts";

const programPath = fileURLToPath(new URL("../ringfold.ts", import.meta.url));

const failureSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), remedy: z.string() }),
});

/** A `ringfold` process that says on stdout, in one line of JSON, when it is ready. */
export interface ReadyProcess<Ready> {
  readonly ready: Ready;
  readonly pid: number;
  readonly exited: boolean;
  /** Settles when it has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** SIGKILL: what a power cut looks like to the others. */
  kill(): Promise<void>;
  /** SIGTERM, and SIGKILL when that did not help in time. */
  stop(): Promise<void>;
}

/**
 * Starts `ringfold ...parameters --json` and waits until it is ready. The process ends when this one does, however.
 * @throws RingfoldError what the process failed with, or CANCELLED
 */
export async function startReadyProcess<Ready>(
  parameters: readonly string[],
  options: {
    readonly schema: z.ZodType<Ready>;
    readonly logPath: string;
    readonly env: NodeJS.ProcessEnv;
    readonly signal: AbortSignal;
    /** For Node itself, ahead of the program. */
    readonly nodeOptions?: readonly string[];
    /** Runs the process inside something, for example a network namespace. */
    readonly wrapper?: readonly string[];
  },
): Promise<ReadyProcess<Ready>> {
  const [command, ...rest] = [
    ...(options.wrapper ?? []),
    process.execPath,
    ...smallHeapOptions,
    ...(options.nodeOptions ?? []),
    programPath,
    ...parameters,
    "--json",
  ];
  const log = openSync(options.logPath, "a");
  const child = spawn(command!, rest, { stdio: ["ignore", "pipe", log, "ipc"], env: options.env });
  const ended = once(child, "exit");
  try {
    const ready = await firstLine(child, options.signal);
    return {
      ready: parseReady(ready, options.schema, parameters[0]!),
      pid: child.pid!,
      get exited() {
        return hasExited(child);
      },
      ended: ended.then(() => undefined),
      kill: async () => {
        if (hasExited(child)) return;
        child.kill("SIGKILL");
        await ended;
      },
      stop: () => stop(child, ended),
    };
  } catch (cause) {
    child.kill("SIGKILL");
    throw cause;
  }
}

async function firstLine(child: ChildProcess, signal: AbortSignal): Promise<string> {
  const lines = createInterface({ input: child.stdout! });
  const [line] = (await Promise.race([
    once(lines, "line", { signal: AbortSignal.any([signal, AbortSignal.timeout(limits.prepareTimeoutMs)]) }),
    once(child, "exit").then(([code]) => [
      JSON.stringify({ error: { code: "INTERNAL", message: `exit code ${code}`, remedy: "" } }),
    ]),
  ])) as [string];
  child.stdout!.resume(); // whatever follows is nobody's; a full pipe must not stop the process
  return line;
}

function parseReady<Ready>(line: string, schema: z.ZodType<Ready>, what: string): Ready {
  const value: unknown = JSON.parse(line);
  const failure = failureSchema.safeParse(value);
  if (failure.success) {
    const { code, message, remedy } = failure.data.error;
    const known: ErrorCode = isErrorCode(code) ? code : "INTERNAL";
    throw new RingfoldError(known, `${what}: ${message}`, remedy ? { remedy } : {});
  }
  return schema.parse(value);
}

async function stop(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  if (hasExited(child)) return;
  child.kill("SIGTERM");
  // An agent waits up to requestTimeoutMs for its release, then closes its own children.
  const timer = setTimeout(() => child.kill("SIGKILL"), limits.requestTimeoutMs + limits.childExitTimeoutMs);
  await ended;
  clearTimeout(timer);
}

const hasExited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;
