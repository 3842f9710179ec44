import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { ParameterSlot } from "../../engine/port.ts";
import { withAverages } from "../averages.ts";
import { withClipping } from "../clipping.ts";
import { createOptimizer, type Optimizer } from "../optimizer.ts";
import { parameterCountOf, type TrainingState } from "../training-state.ts";
import { everyStep } from "./every-step.ts";
import { localSteps } from "./local-steps.ts";
import { averaging, nesterov } from "./outer-optimizer.ts";

/**
 * How the steps of several ranks become one training: what a rank does by itself, and what all agree on at the next
 * synchronization point, where their states are equal to the bit. Between two points nothing in the state changes.
 */
export interface Synchronization {
  /** Names of its f32 [parameterCount] arrays and of its scalars in the state, with their values before the first step. */
  readonly slots: readonly string[];
  readonly scalars: Readonly<Record<string, number>>;
  /** As that of `Optimizer`, of the arrays in the state. */
  readonly newArrays?: NonNullable<Optimizer["newArrays"]>;
  /** Steps from one synchronization point to the next. */
  readonly everySteps: number;
  /** Starts from `state`, without anything that is not in it. @returns parameters that the model must have, if others */
  begin(state: TrainingState): Float32Array | undefined;
  /**
   * After the gradient of one step on this rank.
   * @param gradient f32 [parameterCount], the sum over this rank's examples; may be overwritten
   * @returns parameters that the model must have for the next step, if others
   */
  step(gradient: Float32Array, at: StepOfRank): Float32Array | undefined;
  /** Leaves in `values`, which hold the last gradient, what is to be summed over all ranks. */
  contribute(state: TrainingState, values: Float32Array): void;
  /** Takes `state`, but for its step count, to the next synchronization point. @param sums over all ranks; overwritten */
  apply(state: TrainingState, sums: Float32Array, round: Round): void;
}

export interface StepOfRank {
  /** Of this rank's slice of the global batch: what its sums are divided by; 0 where there are more ranks than examples. */
  readonly lossWeight: number;
  readonly learningRate: number;
}

/** What all ranks know of the steps between two synchronization points. */
export interface Round {
  /** Ranks that took these steps; those that heal do not. */
  readonly contributorCount: number;
  /** Over all ranks and steps. */
  readonly lossWeight: number;
  /** Of the first of these steps. */
  readonly learningRate: number;
}

export function createSynchronization(
  spec: Pick<JobSpec, "synchronization" | "optimizer" | "clipNorm">,
  layout: readonly ParameterSlot[],
): Synchronization {
  const { synchronization, clipNorm } = spec;
  const inner = withAverages(withClipping(createOptimizer(spec.optimizer, layout), clipNorm), layout);
  const parameterCount = parameterCountOf(layout);
  switch (synchronization.kind) {
    case "every-step":
      return everyStep(inner);
    case "averaging":
      return localSteps({ ...synchronization, inner, outer: averaging, parameterCount });
    case "diloco": {
      const outer = nesterov(synchronization);
      return localSteps({ ...synchronization, inner, outer, parameterCount });
    }
  }
}
