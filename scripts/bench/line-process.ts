import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Path of a file in this folder. */
export const pathBeside = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The first command that exits with 0 when called with these parameters. */
export async function firstThatWorks(
  commands: readonly string[],
  parameters: readonly string[],
): Promise<string | undefined> {
  for (const command of commands) {
    const worked = await run(command, [...parameters]).then(
      () => true,
      () => false,
    );
    if (worked) return command;
  }
  return undefined;
}

/** A program that answers each line on its stdin with one line of JSON on its stdout; what we compare with speaks this. */
export class LineProcess {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #exited: Promise<unknown>;
  #errorText = "";

  constructor(command: string, parameters: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(command, parameters, { stdio: ["pipe", "pipe", "pipe"], env });
    this.#exited = once(this.#child, "exit");
    this.#exited.catch(() => {}); // a command that cannot start fails the pending answer
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#errorText = (this.#errorText + text).slice(-2_000);
    });
    this.#child.stdin!.on("error", () => {}); // as above
    this.#lines = createInterface({ input: this.#child.stdout! });
  }

  /** @throws Error with the end of the program's stderr when it ends instead of answering */
  async ask(line: string): Promise<unknown> {
    const answer = once(this.#lines, "line");
    this.#child.stdin!.write(`${line}\n`);
    const first = await Promise.race([answer, this.#exited.then(() => undefined)]);
    if (first === undefined) throw new Error(`${this.#child.spawnfile} ended: ${this.#errorText.trim()}`);
    return JSON.parse(String(first[0]));
  }

  async close(): Promise<void> {
    this.#child.stdin!.end();
    const forceEnd = setTimeout(() => this.#child.kill("SIGKILL"), 3_000);
    await this.#exited;
    clearTimeout(forceEnd);
  }
}
