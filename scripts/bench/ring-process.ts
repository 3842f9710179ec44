import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";

/** A program that answers each line on its stdin with one line of JSON on its stdout; foreign rings speak this. */
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
