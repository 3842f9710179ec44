import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { EngineName } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { FromShardProcess, InferResult, ShardCommand, ToShardProcess } from "./shard-host-messages.ts";

const programPath = fileURLToPath(new URL("./shard-host-process.ts", import.meta.url));
/** Enough of stderr to say what a native library complained about before it aborted. */
const stderrTailLength = 2_000;

interface PendingCall {
  readonly resolve: (result: InferResult | null) => void;
  readonly reject: (error: RingfoldError) => void;
  readonly cancelTimer: () => void;
}

/** One life of the shard host process, seen from the agent. It does not restart itself; ShardHost does that. */
export class ShardChild {
  readonly #process: ChildProcess;
  readonly #clock: Clock;
  readonly #pending = new Map<number, PendingCall>();
  readonly #opened = Promise.withResolvers<{ engine: string; reason: string }>();
  readonly #ended = Promise.withResolvers<RingfoldError>();
  #nextId = 1;
  #phase: "opening" | "open" | "gone" = "opening";
  #endError: RingfoldError | null = null;
  #stderrTail = "";

  /** Forks at once; commands may be called when `opened` resolves. */
  constructor(engine: EngineName, clock: Clock) {
    this.#clock = clock;
    this.#process = fork(programPath, [engine], {
      serialization: "advanced",
      execArgv: inheritedExecArgv(),
      env: inheritedEnvironment(),
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#opened.promise.catch(() => undefined);
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderrTail = (this.#stderrTail + text).slice(-stderrTailLength);
    });
    this.#process.on("message", (message: FromShardProcess) => this.#receive(message));
    this.#process.on("disconnect", () => this.#process.kill("SIGKILL"));
    this.#process.once("error", (cause) => this.#end(`could not run: ${cause.message}`));
    this.#process.once("exit", (code, signal) => this.#end(`ended (${signal ?? `exit code ${code}`})`));
    const cancelTimer = clock.after(limits.prepareTimeoutMs, () => this.kill());
    void Promise.allSettled([this.#opened.promise]).then(cancelTimer);
  }

  /** @throws RingfoldError ENGINE_UNAVAILABLE */
  get opened(): Promise<{ engine: string; reason: string }> {
    return this.#opened.promise;
  }

  /** Resolves with the reason when the process is gone and every pending call has been rejected. */
  get ended(): Promise<RingfoldError> {
    return this.#ended.promise;
  }

  get gone(): boolean {
    return this.#phase === "gone";
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /**
   * Sends one command and waits for its answer. A process that stays silent for `stallMs` is killed: what it computes
   * is of no use to anybody any more, and a hung GPU never answers.
   * @throws RingfoldError ENGINE_UNAVAILABLE when the process ends first, or the code that the process answers with
   */
  call(command: ShardCommand, stallMs: number): Promise<InferResult | null> {
    if (this.#endError !== null) return Promise.reject(this.#endError);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#clock.after(stallMs, () => this.kill());
      this.#pending.set(id, { resolve, reject, cancelTimer });
      this.#send({ kind: "command", id, command });
    });
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  /** Asks the process to end, and ends it after `limits.childExitTimeoutMs`; at once while it has nothing to lose. */
  async close(): Promise<void> {
    if (this.#phase === "open") this.#send({ kind: "close" });
    else this.kill();
    const cancelTimer = this.#clock.after(limits.childExitTimeoutMs, () => this.kill());
    await this.#ended.promise;
    cancelTimer();
  }

  #send(message: ToShardProcess): void {
    // A failed send means a dying process: its `exit` rejects whatever is pending.
    if (this.#process.connected) this.#process.send(message, () => undefined);
  }

  #receive(message: FromShardProcess): void {
    switch (message.kind) {
      case "opened":
        this.#phase = "open";
        this.#opened.resolve({ engine: message.engine, reason: message.reason });
        return;
      case "refused":
        this.#opened.reject(new RingfoldError(message.code, message.message));
        return;
      case "done":
        this.#take(message.id)?.resolve(message.result);
        return;
      case "failed":
        this.#take(message.id)?.reject(new RingfoldError(message.code, message.message));
        return;
    }
  }

  #take(id: number): PendingCall | undefined {
    const call = this.#pending.get(id);
    this.#pending.delete(id);
    call?.cancelTimer();
    return call;
  }

  #end(how: string): void {
    const lastWords = this.#stderrTail.trim().split("\n").at(-1) ?? "";
    const error = new RingfoldError(
      "ENGINE_UNAVAILABLE",
      `the shard host process ${how}${lastWords === "" ? "" : `: ${lastWords}`}`,
      { remedy: "Requests go to other replicas while it restarts; the agent's log says why it ended." },
    );
    this.#phase = "gone";
    this.#endError ??= error;
    this.#opened.reject(error);
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(error);
    this.#ended.resolve(error);
  }
}

/** Only what a .ts program needs to start: debugger ports and test runners' loaders are the parent's own. */
const inheritedExecArgv = (): string[] =>
  process.execArgv.filter((argument) =>
    /^--(experimental-strip-types|no-warnings|disable-warning=|max-old-space-size=)/.test(argument),
  );

/** The engine needs the driver's variables, whatever they are called, but no secret of ours and no NODE_OPTIONS. */
function inheritedEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => name !== "NODE_OPTIONS" && !name.startsWith("RINGFOLD_"),
  );
  return Object.fromEntries(kept);
}
