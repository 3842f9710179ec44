import { rmSync, unlinkSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { abortError, untilAborted } from "../deadline.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import type { Entry } from "../training/healing/entry.ts";
import { StallBound } from "../training/stall-bound.ts";
import type { BucketRule } from "../training/synchronization/buckets.ts";
import { tail } from "../training/synchronization/exchange.ts";
import { isEndOfScript, type StepReport, type Trainee } from "../training/trainee.ts";
import type { FromScript } from "./script-messages.ts";
import type { ScriptProcess } from "./script-process.ts";
import { type OpenSum, SharedGradients } from "./shared-gradients.ts";

type Reduce = Extract<FromScript, { kind: "reduce" }>;
type Boundary = Extract<FromScript, { kind: "boundary" }>;

export interface TorchTrainerOptions {
  readonly spec: JobSpec;
  readonly script: ScriptProcess;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly onStep: (report: StepReport) => Promise<void>;
  /** The first step, counted when it is complete, after `step` whose state is wanted by itself; a rank alone may run up to it. */
  readonly nextWanted: (step: number) => number;
  /** The same on all ranks; the rule of the ring's other users unless told. */
  readonly bucketRule?: BucketRule;
}

/**
 * A rank whose gradients a script computes. The path of a step: the script leaves them in shared memory, bucket by bucket
 * where it can (`final`), and says `reduce` -> into the ring's vector, totals and votes behind them -> sum over the ring ->
 * back into shared memory -> the script takes its own optimizer step and comes with the next gradients. By then, and not
 * before, the step is reported: the state is the script's, and it answers for it only while it waits for us.
 *
 * A rank alone has nothing to wait for: its script runs ahead, by a few steps, up to where its state is wanted.
 */
export class TorchTrainer implements Trainee {
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  readonly parameterCount: number;
  readonly device: string;
  readonly stall = new StallBound();
  /** Of the plan that runs next; for the script, which may want to say it. */
  generation = 0;
  readonly #options: TorchTrainerOptions;
  readonly #gradients: SharedGradients;
  #point: TrainingPoint;
  #stateBytes = 0;
  #pauseWanted = false;
  #evaluation: Boundary["evaluation"] = null;
  /** What a script that runs ahead was told: it waits from this step on. */
  #freeUntil = 0;

  /** Waits until the script has built its model. @throws RingfoldError SCRIPT_SILENT | SCRIPT_FAILED | ENGINE_UNAVAILABLE */
  static async open(options: TorchTrainerOptions): Promise<TorchTrainer> {
    const ready = await options.script.expect("ready", limits.scriptReadyTimeoutMs);
    return new TorchTrainer(options, ready);
  }

  private constructor(options: TorchTrainerOptions, ready: Extract<FromScript, { kind: "ready" }>) {
    this.#options = options;
    this.totalSteps = ready.totalSteps;
    this.stepsPerEpoch = ready.stepsPerEpoch;
    this.device = ready.device;
    const layout = slots(ready.layout);
    this.parameterCount = layout.reduce((total, { elementCount }) => total + elementCount, 0);
    const path = join(options.script.sharedPath, "gradients");
    this.#gradients = new SharedGradients({ ...options, path, layout });
    this.#point = { step: ready.step, hash: ready.hash };
  }

  get memory(): RingMemory {
    return this.#gradients.memory;
  }

  get skippedCount(): number {
    return this.#gradients.skippedCount;
  }

  point(): TrainingPoint {
    return this.#point;
  }

  async encodeState(): Promise<Uint8Array> {
    return this.#read("save");
  }

  /** Ends the script, too: it may do something with what it has trained first. @throws RingfoldError SCRIPT_FAILED */
  async encodeWeights(): Promise<Uint8Array> {
    const point = this.#point;
    const weights = await this.#read("weights");
    this.#point = point;
    await this.#options.script.finish();
    return weights;
  }

  async restoreState(state: Uint8Array): Promise<void> {
    const { script } = this.#options;
    writeShared(join(script.sharedPath, "state"), state);
    script.send({ kind: "load" });
    const answer = await script.answer("load a state", this.#answerMs(state.byteLength));
    if (answer.kind === "refused") throw new RingfoldError("ARTEFACT_CORRUPT", answer.message);
    this.#take(answer);
  }

  requestPause(): void {
    this.#pauseWanted = true;
  }

  async run(ring: RingPort, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused"> {
    this.#pauseWanted = false;
    this.#gradients.begin();
    this.#freeUntil = 0;
    try {
      ring.hopTimeoutMs = this.stall.boundMs;
      if (entry) await this.#heal(ring, entry, signal);
      const { rank, worldSize } = ring;
      const { bucketStarts } = this.#gradients;
      const { script } = this.#options;
      script.send({ kind: "begin", generation: this.generation, rank, worldSize, bucketStarts });
      return await this.#steps(ring, signal, entry);
    } catch (cause) {
      const error = toRingfoldError(cause);
      // Whoever plans the next ring asks where this rank stands; a script that is gone stands nowhere.
      if (!isEndOfScript(error)) await this.#locate();
      throw error;
    }
  }

  /** Sums what the ranks' shares gave; an evaluation of no examples where the script has none. */
  async evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation> {
    const { lossSum, correctCount, exampleCount } = this.#evaluation ?? nothing;
    const totals = Float32Array.of(lossSum, correctCount, exampleCount);
    ring.hopTimeoutMs = limits.firstStepTimeoutMs; // steps say nothing of how long the others' shares take
    await ring.allReduce(totals, signal);
    const [loss, correct, examples] = totals as unknown as [number, number, number];
    if (examples === 0) return { examples: 0, loss: 0, accuracy: null, metrics: {} };
    const accuracy = Math.min(1, Math.max(0, correct / examples));
    return { examples, loss: loss / examples, accuracy, metrics: {} };
  }

  close(): void {
    this.#gradients.close();
  }

  /**
   * A script cannot apply old sums without computing anew, so all ranks wait in the first all-reduce until everybody has
   * the state; the TF.js trainer does better (training/healing).
   */
  async #heal(ring: RingPort, entry: Entry, signal: AbortSignal): Promise<void> {
    const { catchUp } = entry;
    if (!catchUp) {
      ring.hopTimeoutMs = limits.firstStepTimeoutMs + this.#stateBytes / healingBytesPerMs;
      return;
    }
    await untilAborted(catchUp.arrival, signal);
    const taken = catchUp.take();
    if (taken) await entry.restore(taken.state);
    catchUp.done();
    entry.onHealed();
  }

  async #steps(ring: RingPort, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused"> {
    const { nowMs, onStep, script } = this.#options;
    let applied: StepReport | undefined;
    let sum: OpenSum | undefined;
    let startedAtMs = nowMs();
    for (let step = this.#point.step, first = true; ; ) {
      const message = await script.receive();
      if (message.kind === "final") {
        sum ??= this.#gradients.open(ring, signal);
        sum.take(message, step);
        continue;
      }
      if (message.kind !== "reduce" && message.kind !== "boundary") throw outOfTurn(message);
      if (applied) {
        const durationMs = nowMs() - startedAtMs;
        this.stall.observe(durationMs / (message.kind === "reduce" ? message.stepCount : 1));
        ring.hopTimeoutMs = this.stall.boundMs;
        this.#point = { ...this.#point, step: applied.step };
        await onStep({ ...applied, durationMs });
        startedAtMs = nowMs();
        applied = undefined;
      }
      const waits = message.kind === "boundary" || message.waits;
      // Of buckets that are on their way the sum tells the end.
      if (signal.aborted && waits && !sum) throw abortError(signal);
      if (message.kind === "boundary") return this.#end(message);
      applied = await this.#sum(message, ring, sum ?? this.#gradients.open(ring, signal), signal);
      step = applied.step;
      sum = undefined;
      if (first) entry?.onAllHealed();
      first = false;
    }
  }

  async #end(message: Boundary): Promise<"done" | "paused"> {
    await this.#locate();
    this.#evaluation = message.evaluation;
    const isPause = message.evaluation === null && this.#pauseWanted;
    return isPause || message.step < this.totalSteps ? "paused" : "done";
  }

  /** One all-reduce of what the script has left in the shared memory. */
  async #sum(message: Reduce, ring: RingPort, sum: OpenSum, signal: AbortSignal): Promise<StepReport> {
    const { script } = this.#options;
    if (ring.isWornOut) this.requestPause();
    const { fault, totals, lacking, ...times } = await sum.complete(message, this.#pauseWanted);
    const examples = totals[tail.exampleCount]!;
    const pauses = totals[tail.pauseVotes]! > 0;
    if (pauses) this.#pauseWanted = true;
    const mayRunAhead = ring.worldSize === 1 && !pauses && !signal.aborted;
    const freeUntil = mayRunAhead ? this.#freeAfter(message) : 0;
    if (message.waits) {
      this.#freeUntil = freeUntil;
      const skipped = fault !== undefined;
      script.send({ kind: "reduced", exampleCount: examples, pauses, skipped, lacking, freeUntil });
    } else if (freeUntil === 0 || freeUntil - this.#freeUntil >= limits.scriptStepsAhead / 2) {
      this.#leash(freeUntil);
    }
    return {
      ...{ step: message.step + 1, stepCount: message.stepCount, fault, examples, durationMs: 0 },
      loss: examples === 0 ? 0 : totals[tail.lossSum]! / examples,
      accuracy: examples === 0 ? 0 : totals[tail.correctCount]! / examples,
      ...times,
      sentBytes: ring.sentBytes,
      wantsCheckpoint: message.wantsCheckpoint,
    };
  }

  /** How far the script may run without an answer. */
  #freeAfter({ step, wantsCheckpoint }: Reduce): number {
    if (wantsCheckpoint) return 0;
    return Math.min(this.#options.nextWanted(step), step + 1 + limits.scriptStepsAhead);
  }

  #leash(until: number): void {
    if (until === this.#freeUntil) return;
    this.#freeUntil = until;
    this.#options.script.send({ kind: "free", until });
  }

  /** Asks the script where its state stands. */
  async #locate(): Promise<void> {
    const { script } = this.#options;
    script.send({ kind: "point" });
    this.#take(await script.answer("say where its state stands", this.#answerMs()));
  }

  async #read(kind: "save" | "weights"): Promise<Uint8Array> {
    const { script } = this.#options;
    const path = join(script.sharedPath, "state");
    script.send({ kind });
    const doing = kind === "save" ? "save its state" : "save its weights";
    this.#take(await script.answer(doing, this.#answerMs()));
    const bytes = await readFile(path);
    unlinkSync(path);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length); // a Buffer's slice would be a view
  }

  /** How long the script may take for something with all of its state: 16 bytes a parameter where that is not known, as of Adam. */
  #answerMs(bytes = Math.max(this.#stateBytes, 16 * this.parameterCount)): number {
    return limits.scriptAnswerTimeoutMs + bytes / limits.scriptStateBytesPerMs;
  }

  #take(answer: FromScript): void {
    if (answer.kind !== "state") throw outOfTurn(answer);
    this.#point = { step: answer.step, hash: answer.hash };
    this.#stateBytes = Math.max(this.#stateBytes, answer.bytes);
  }
}

/** @throws RingfoldError SHARED_MEMORY_FULL */
function writeShared(path: string, bytes: Uint8Array): void {
  try {
    writeFileSync(path, bytes, { mode: 0o600 });
  } catch (cause) {
    rmSync(path, { force: true }); // what was written of it takes room, too
    if ((cause as NodeJS.ErrnoException).code !== "ENOSPC") throw cause;
    const message = `${dirname(dirname(path))} has no room for the state, which takes ${(bytes.length / 1e6).toFixed(1)} MB`;
    throw new RingfoldError("SHARED_MEMORY_FULL", message, {}, { cause });
  }
}

const nothing = { lossSum: 0, correctCount: 0, exampleCount: 0 };
/** Slower than any link on which gradients are worth sending. */
const healingBytesPerMs = 10_000;

const outOfTurn = ({ kind }: FromScript): RingfoldError =>
  new RingfoldError("SCRIPT_FAILED", `the script sends ${kind} out of its turn`);

function slots(
  parts: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly elementCount: number;
  }[],
): ParameterSlot[] {
  let offset = 0;
  return parts.map((part) => {
    offset += part.elementCount;
    return { ...part, offset: offset - part.elementCount };
  });
}
