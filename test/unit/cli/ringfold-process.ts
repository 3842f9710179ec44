import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const launcher = fileURLToPath(new URL("../../../scripts/ringfold", import.meta.url));

interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The real command as a child process, away from the settings of whoever runs the test. */
export function startRingfold(
  userArguments: readonly string[],
  options: {
    readonly env?: Record<string, string>;
    readonly input?: string;
    readonly launcher?: string;
  } = {},
): { readonly child: ChildProcessWithoutNullStreams; readonly outcome: Promise<Outcome> } {
  const child = spawn(options.launcher ?? launcher, userArguments, {
    env: { PATH: process.env.PATH, HOME: "/nonexistent", ...options.env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdin.on("error", () => {}); // a process that ends at once has not read it: its outcome tells why
  child.stdin.end(options.input ?? "");
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode, stdout, stderr }));
  });
  return { child, outcome };
}

export const runRingfold = (...parameters: Parameters<typeof startRingfold>): Promise<Outcome> =>
  startRingfold(...parameters).outcome;
