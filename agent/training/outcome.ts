import type { JobSpec } from "../../protocol/job-spec.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingPort } from "../ring/port.ts";
import { BestState, type Settled } from "./best-state.ts";
import { evaluateShare, type HeldOut } from "./evaluation.ts";
import { type Asked, askedOf } from "./metrics/asked.ts";
import { encodeWeights, type TrainingState } from "./training-state.ts";

interface OutcomeOptions {
  readonly state: TrainingState;
  readonly model: TrainableModel;
  /** With those parameters that are not trained; `model` itself where all are. */
  readonly whole?: TrainableModel | undefined;
  readonly heldOut: HeldOut;
}

/** What a training comes to: which state the version is made of, what the held-out set says of it, and its weights. */
export class Outcome {
  readonly #options: OutcomeOptions;
  readonly #best: BestState;
  readonly #asked: Asked;
  #settled: Settled | undefined;

  constructor(spec: Pick<JobSpec, "checkpoint" | "evaluation" | "metrics">, options: OutcomeOptions) {
    this.#options = options;
    this.#asked = askedOf(spec, options.heldOut.target, "at the end");
    this.#best = new BestState(spec, options.state);
  }

  /** Training goes on, so nothing is settled. */
  reopen(): void {
    this.#settled = undefined;
  }

  /** The state as it stands is the best so far. */
  keepBest(): void {
    this.#best.keep(this.#options.state);
  }

  /** Evaluates the held-out set, each rank its share. @throws as `evaluateShare` */
  evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation> {
    return evaluateShare(ring, this.#options.heldOut, this.#asked, signal);
  }

  /** Decides which state the version is made of. @throws as `evaluateShare` */
  async settle(ring: RingPort, signal: AbortSignal): Promise<Settled> {
    const { state, model } = this.#options;
    this.#settled = await this.#best.settle(state, async (parameters) => {
      model.writeParameters(parameters);
      const evaluation = await this.evaluate(ring, signal);
      model.writeParameters(state.parameters);
      return evaluation;
    });
    return this.#settled;
  }

  /** Those of the settled state, or of the state as it stands: safetensors. */
  async encodeWeights(): Promise<Uint8Array> {
    const { state, model, whole = model } = this.#options;
    const trained = this.#settled ?? state;
    if (whole.layout.length === model.layout.length) return encodeWeights(trained, model.layout);
    const parameters = new Float32Array(whole.description.parameterCount);
    model.writeParameters(trained.parameters);
    await whole.readParameters(parameters);
    model.writeParameters(state.parameters);
    return encodeWeights({ parameters }, whole.layout);
  }
}
