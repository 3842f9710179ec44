import { closeSync, openSync, readSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation, TrainingPoint } from "../../protocol/messages/job.ts";
import { abortError, untilAborted } from "../deadline.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import { FiniteGuard } from "../training/finite-guard.ts";
import type { Entry } from "../training/healing/entry.ts";
import { StallBound } from "../training/stall-bound.ts";
import { Exchange, tail } from "../training/synchronization/exchange.ts";
import { isEndOfScript, type StepReport, type Trainee } from "../training/trainee.ts";
import type { FromScript } from "./script-messages.ts";
import type { ScriptProcess } from "./script-process.ts";

type Reduce = Extract<FromScript, { kind: "reduce" }>;

export interface TorchTrainerOptions {
  readonly spec: JobSpec;
  readonly script: ScriptProcess;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly onStep: (report: StepReport) => Promise<void>;
}

/**
 * A rank whose gradients a script computes. The path of a step: the script leaves them in shared memory and says `reduce` ->
 * into the ring's vector, totals and votes behind them -> sum over the ring -> back into shared memory -> the script takes
 * its own optimizer step and comes with the next gradients. By then, and not before, the step is reported: the state is the
 * script's, and it answers for it only while it waits for us.
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
  readonly #exchange: Exchange;
  readonly #guard: FiniteGuard;
  /** The gradients' file; its name is gone, so that nothing stays when this process is killed. */
  readonly #shared: number;
  #point: TrainingPoint;
  #stateBytes = 0;
  #pauseWanted = false;
  #evaluation: Extract<FromScript, { kind: "boundary" }>["evaluation"] = null;

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
    // A script hands over all its gradients at once.
    this.#exchange = new Exchange({ ...options.spec, overlap: "never" }, this.parameterCount);
    this.#guard = new FiniteGuard(options.spec.nonFinite, layout);
    this.#point = { step: ready.step, hash: ready.hash };
    const path = join(options.script.sharedPath, "gradients");
    this.#shared = openSync(path, "r+");
    unlinkSync(path);
  }

  get memory(): RingMemory {
    return this.#exchange.memory;
  }

  get skippedCount(): number {
    return this.#guard.skippedCount;
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
    writeFileSync(join(script.sharedPath, "state"), state, { mode: 0o600 });
    script.send({ kind: "load" });
    const answer = await script.receive();
    if (answer.kind === "refused") throw new RingfoldError("ARTEFACT_CORRUPT", answer.message);
    this.#take(answer);
  }

  requestPause(): void {
    this.#pauseWanted = true;
  }

  async run(ring: RingPort, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused"> {
    this.#pauseWanted = false;
    this.#exchange.begin();
    this.#guard.begin();
    try {
      ring.hopTimeoutMs = this.stall.boundMs;
      if (entry) await this.#heal(ring, entry, signal);
      const { rank, worldSize } = ring;
      this.#options.script.send({ kind: "begin", generation: this.generation, rank, worldSize });
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
    closeSync(this.#shared);
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
    const { nowMs, onStep } = this.#options;
    let applied: StepReport | undefined;
    let startedAtMs = nowMs();
    for (let first = true; ; first = false) {
      const message = await this.#options.script.receive();
      if (message.kind !== "reduce" && message.kind !== "boundary") throw outOfTurn(message);
      if (applied) {
        const durationMs = nowMs() - startedAtMs;
        this.stall.observe(durationMs);
        ring.hopTimeoutMs = this.stall.boundMs;
        this.#point = { ...this.#point, step: applied.step };
        await onStep({ ...applied, durationMs });
        startedAtMs = nowMs();
        applied = undefined;
      }
      if (signal.aborted) throw abortError(signal);
      if (message.kind === "boundary") {
        await this.#locate();
        this.#evaluation = message.evaluation;
        return message.evaluation !== null || !this.#pauseWanted ? this.#ending(message.step) : "paused";
      }
      applied = await this.#sum(message, ring, signal);
      if (first) entry?.onAllHealed();
    }
  }

  #ending(step: number): "done" | "paused" {
    return step >= this.totalSteps ? "done" : "paused";
  }

  /** One all-reduce of what the script has left in the shared memory. */
  async #sum(message: Reduce, ring: RingPort, signal: AbortSignal): Promise<StepReport> {
    const { nowMs, script } = this.#options;
    const { values, totals } = this.#exchange;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const alone = ring.worldSize === 1;
    const startedAtMs = nowMs();
    if (ring.isWornOut) this.requestPause();
    if (!alone) readSync(this.#shared, bytes, 0, bytes.length, 0);
    totals.fill(0);
    totals[tail.lossSum] = message.totals.lossSum;
    totals[tail.correctCount] = message.totals.correctCount;
    totals[tail.exampleCount] = message.totals.exampleCount;
    totals[tail.targetCount] = message.totals.exampleCount;
    totals[tail.pauseVotes] = this.#pauseWanted ? 1 : 0;
    if (message.nonFinite !== null) this.#guard.find(message.nonFinite, message.step);
    const exchange = this.#exchange.open(ring, signal, (range) => this.#guard.takeBack(values, range));
    await exchange.complete(() => this.#guard.vote(totals));
    const round = { ring, values: noValues, totals, step: message.step };
    const fault = await this.#guard.judge(round, signal);
    if (!alone && !fault) writeSync(this.#shared, bytes, 0, bytes.length, 0);
    const examples = totals[tail.exampleCount]!;
    const pauses = totals[tail.pauseVotes]! > 0;
    if (pauses) this.#pauseWanted = true;
    script.send({ kind: "reduced", exampleCount: examples, pauses, skipped: fault !== undefined });
    return {
      ...{ step: message.step + 1, stepCount: 1, fault, examples, durationMs: 0 },
      loss: totals[tail.lossSum]! / examples,
      accuracy: totals[tail.correctCount]! / examples,
      communicationMs: nowMs() - startedAtMs,
      hiddenCommunicationMs: 0,
      sentBytes: ring.sentBytes,
      wantsCheckpoint: message.wantsCheckpoint,
    };
  }

  /** Asks the script where its state stands. */
  async #locate(): Promise<void> {
    this.#options.script.send({ kind: "point" });
    this.#take(await this.#options.script.receive());
  }

  async #read(kind: "save" | "weights"): Promise<Uint8Array> {
    const { script } = this.#options;
    const path = join(script.sharedPath, "state");
    script.send({ kind });
    this.#take(await script.receive());
    const bytes = await readFile(path);
    unlinkSync(path);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length); // a Buffer's slice would be a view
  }

  #take(answer: FromScript): void {
    if (answer.kind !== "state") throw outOfTurn(answer);
    this.#point = { step: answer.step, hash: answer.hash };
    this.#stateBytes = Math.max(this.#stateBytes, answer.bytes);
  }
}

const noValues = new Float32Array(0);
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
