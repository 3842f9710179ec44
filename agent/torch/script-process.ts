import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Clock, Log } from "../../protocol/ports.ts";
import type { ScriptSpec } from "../../protocol/script-spec.ts";
import { processorTimeMs } from "./processor-time.ts";
import { ScriptChannel } from "./script-channel.ts";
import { ScriptLog } from "./script-log.ts";
import { type FromScript, scriptProtocol, type ToScript } from "./script-messages.ts";
import { ScriptSilence, type SilenceBounds } from "./script-silence.ts";

export interface ScriptOptions {
  readonly jobId: string;
  readonly script: ScriptSpec;
  readonly python: string;
  readonly seed: number;
  /** Where scripts and their logs are kept. */
  readonly folder: string;
  /** Where memory is shared; this system's own place unless told. */
  readonly sharedFolder?: string;
  readonly clock: Clock;
  readonly log: Log;
  /** When it counts as hung while it computes; those of `script-silence.ts` unless told. */
  readonly silence?: SilenceBounds;
}

/**
 * A PyTorch program in its own process group beside the trainer, which feeds it and waits for it. Its end, however it comes,
 * is one error that all who wait get.
 */
export class ScriptProcess {
  /** The private folder with the socket and the shared memory. */
  readonly sharedPath: string;
  readonly logPath: string;
  /** The first line of its own failure, or that it is over; settles when the process is gone. */
  readonly ended: Promise<RingfoldError | undefined>;
  readonly #child: ChildProcess;
  readonly #channel: ScriptChannel;
  readonly #clock: Clock;
  readonly #silence: ScriptSilence;
  /** Why it was ended by us. */
  #overdue: RingfoldError | undefined;
  #failed: Extract<FromScript, { kind: "failed" }> | undefined;
  /** It has come to its loop. */
  #isReady = false;
  /** It may end by itself: all steps are done, or it was told to. */
  #mayEnd = false;

  /** Starts the script and shakes hands. @throws RingfoldError ENGINE_UNAVAILABLE | SCRIPT_FAILED | SCRIPT_SILENT */
  static async start(options: ScriptOptions): Promise<ScriptProcess> {
    const sharedPath = mkdtempSync(join(options.sharedFolder ?? sharedMemoryFolder(), "ringfold-"));
    let script: ScriptProcess | undefined;
    try {
      const channel = await ScriptChannel.listen(join(sharedPath, "socket"));
      script = new ScriptProcess(options, sharedPath, channel);
      const hello = await script.expect("hello", limits.scriptReadyTimeoutMs);
      if (hello.protocol !== scriptProtocol)
        throw script.#failure(`its ringfold package speaks protocol ${hello.protocol}`);
      options.log.info({ jobId: options.jobId, python: hello.python, torch: hello.torch }, "Script started");
      return script;
    } catch (cause) {
      await script?.close();
      rmSync(sharedPath, { recursive: true, force: true });
      throw cause;
    }
  }

  private constructor(options: ScriptOptions, sharedPath: string, channel: ScriptChannel) {
    const { jobId, script, python, clock } = options;
    this.sharedPath = sharedPath;
    this.#channel = channel;
    this.#clock = clock;
    this.#silence = new ScriptSilence(options.silence);
    const folder = join(options.folder, jobId);
    const keep = new ScriptLog(folder);
    this.logPath = keep.path;
    const scriptPath = join(folder, script.name);
    writeFileSync(scriptPath, script.source);
    this.#child = spawn(python, ["-u", "-m", "ringfold", scriptPath, ...script.args], {
      cwd: folder,
      detached: true, // a process group of its own: its data loaders end with it, and a Ctrl-C is not meant for it
      stdio: ["ignore", "pipe", "pipe"],
      env: environment({ sharedPath, seed: options.seed }),
    });
    this.#child.stdout?.on("data", (bytes: Uint8Array) => keep.write(bytes));
    this.#child.stderr?.on("data", (bytes: Uint8Array) => keep.write(bytes));
    this.ended = new Promise((resolve) => {
      let spawnFailure: NodeJS.ErrnoException | undefined;
      this.#child.once("error", (error) => {
        spawnFailure = error;
        finish(null, null);
      });
      // `close`, not `exit`: its last words are still in the pipe when it is gone.
      this.#child.once("close", (code, signal) => finish(code, signal));
      // What it has left behind in a session of its own may keep the pipe for ever.
      this.#child.once("exit", (code, signal) => {
        void this.ended.then(clock.after(lastWordsMs, () => finish(code, signal)));
      });
      let isOver = false; // after `error` comes `close`
      const finish = (code: number | null, signal: NodeJS.Signals | null) => {
        if (isOver) return;
        isOver = true;
        for (const pipe of [this.#child.stdout, this.#child.stderr]) pipe?.destroy();
        keep.close();
        rmSync(sharedPath, { recursive: true, force: true });
        const error = this.#describe(code, signal, { python, spawnFailure });
        channel.fail(error ?? new RingfoldError("CANCELLED", "the script has ended"));
        resolve(error);
      };
    });
  }

  send(message: ToScript): void {
    this.#channel.send(message);
  }

  /**
   * The next message of a script that computes; its failure is why it ends.
   * @throws RingfoldError SCRIPT_STALLED when it hangs; as `ended` says
   */
  async receive(): Promise<FromScript> {
    const endWatch = this.#watch();
    try {
      return await this.#next();
    } finally {
      endWatch();
    }
  }

  /** What it answers while it waits for us. @param doing for people @throws RingfoldError SCRIPT_STALLED after the deadline; as `ended` says */
  async answer(doing: string, timeoutMs: number): Promise<FromScript> {
    const cancelTimer = this.#clock.after(timeoutMs, () =>
      this.#stalled(`did not ${doing} within ${seconds(timeoutMs)} s`),
    );
    try {
      return await this.#next();
    } finally {
      cancelTimer();
    }
  }

  async #next(): Promise<FromScript> {
    const message = await this.#channel.receive();
    if (message.kind === "ready") this.#isReady = true;
    if (message.kind !== "failed") return message;
    this.#failed = message;
    throw (await this.ended) ?? this.#failure(message.reason);
  }

  /** The next message, which must be of this kind. @throws RingfoldError SCRIPT_SILENT after the deadline | SCRIPT_FAILED */
  async expect<Kind extends FromScript["kind"]>(
    kind: Kind,
    timeoutMs: number,
  ): Promise<Extract<FromScript, { kind: Kind }>> {
    const cancelTimer = this.#clock.after(timeoutMs, () => {
      const message = `the script has not come to ringfold.steps() within ${seconds(timeoutMs)} s; its log: ${this.logPath}`;
      this.#abort(new RingfoldError("SCRIPT_SILENT", message));
    });
    try {
      const message = await this.#next();
      if (message.kind === kind) return message as Extract<FromScript, { kind: Kind }>;
      throw this.#failure(`it sent ${message.kind} where ${kind} was due`);
    } finally {
      cancelTimer();
    }
  }

  /** Looks at the script while it computes. @returns ends the looks */
  #watch(): () => void {
    const silence = this.#silence;
    silence.begin(this.#clock.monotonicMs());
    let isOver = false;
    const look = async (): Promise<void> => {
      const processorMs = await processorTimeMs(this.#child.pid ?? 0);
      if (isOver) return;
      const verdict = silence.look(this.#clock.monotonicMs(), processorMs);
      if (verdict) this.#stalled(verdict);
      else cancelTimer = this.#clock.after(silence.lookMs, () => void look());
    };
    let cancelTimer = this.#clock.after(silence.lookMs, () => void look());
    return () => {
      isOver = true;
      cancelTimer();
      silence.end(this.#clock.monotonicMs());
    };
  }

  #stalled(how: string): void {
    const data = { log: this.logPath };
    this.#abort(new RingfoldError("SCRIPT_STALLED", `the script ${how}; its log: ${this.logPath}`, data));
  }

  /** Ends a script that hangs; who waits for it hears why. */
  #abort(error: RingfoldError): void {
    this.#overdue ??= error;
    this.#channel.fail(error);
    this.#kill("SIGABRT"); // its launcher writes to the log where it stands
    const cancelKill = this.#clock.after(limits.childExitTimeoutMs / 2, () => this.#kill("SIGKILL"));
    void this.ended.then(cancelKill);
  }

  /** It may leave its loop and end. @throws RingfoldError SCRIPT_FAILED when it fails after its last step */
  async finish(): Promise<void> {
    this.#mayEnd = true;
    this.send({ kind: "end" });
    const cancelTimer = this.#clock.after(limits.scriptEndTimeoutMs, () => this.#kill("SIGKILL"));
    const error = await this.ended;
    cancelTimer();
    if (error?.code === "SCRIPT_FAILED") throw error;
  }

  async close(): Promise<void> {
    this.#mayEnd = true;
    this.#channel.fail(new RingfoldError("CANCELLED", "the trainer ends"));
    this.#kill("SIGTERM");
    const cancelTimer = this.#clock.after(limits.childExitTimeoutMs / 2, () => this.#kill("SIGKILL"));
    await this.ended;
    cancelTimer();
  }

  /** The whole group: what the script has started ends with it. */
  #kill(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null)
      return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      // gone meanwhile
    }
  }

  #describe(
    code: number | null,
    signal: NodeJS.Signals | null,
    { python, spawnFailure }: { python: string; spawnFailure: NodeJS.ErrnoException | undefined },
  ): RingfoldError | undefined {
    if (spawnFailure) {
      const message = `${python} cannot be started: ${spawnFailure.code ?? spawnFailure.message}`;
      return new RingfoldError("ENGINE_UNAVAILABLE", message, { remedy: torchRemedy });
    }
    if (this.#failed?.torchMissing) {
      const message = `${python} has no torch: apt-get install python3-torch, or name another Python`;
      return new RingfoldError("ENGINE_UNAVAILABLE", message, { remedy: torchRemedy });
    }
    if (this.#failed?.sharedMemoryFull) return new RingfoldError("SHARED_MEMORY_FULL", this.#failed.reason);
    if (this.#failed) return this.#failure(this.#failed.reason);
    if (this.#mayEnd) return undefined;
    if (this.#overdue) return this.#overdue;
    if (signal) return new RingfoldError("TRAINER_DIED", `the script was ended by ${signal}`, { signal });
    if (code === 0 && this.#isReady) return this.#failure("it ended by itself before its last step");
    if (code === 0) return this.#failure("it ended before its training: is there a ringfold.steps() loop?");
    return this.#failure(`exit code ${code}`);
  }

  #failure(reason: string): RingfoldError {
    const message = `the script failed: ${reason}; its log: ${this.logPath}`;
    return new RingfoldError("SCRIPT_FAILED", message, { log: this.logPath });
  }
}

/** Until what a script that is gone has printed is through the pipe. */
const lastWordsMs = 5_000;

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

const torchRemedy =
  "Install it (apt-get install python3-torch), or name the Python that has it: ringfold agent --python PATH.";

/** Memory that two processes share by a file; elsewhere than on Linux a file like any other. */
function sharedMemoryFolder(): string {
  return process.platform === "linux" ? "/dev/shm" : tmpdir();
}

/** The agent's environment without its secrets, and where the script finds us. */
function environment({ sharedPath, seed }: { sharedPath: string; seed: number }): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => name !== "NODE_OPTIONS" && !name.startsWith("RINGFOLD_"),
  );
  const packagePath = fileURLToPath(new URL(".", import.meta.url));
  return {
    ...Object.fromEntries(inherited),
    PYTHONPATH: [packagePath, ...(process.env.PYTHONPATH ? [process.env.PYTHONPATH] : [])].join(":"),
    PYTHONDONTWRITEBYTECODE: "1", // the package's folder may be read-only, and is not ours to fill
    RINGFOLD_FOLDER: sharedPath,
    RINGFOLD_SEED: String(seed),
  };
}
