import type { JobSpec } from "../../protocol/job-spec.ts";
import { checkObjective, type Objective, objectiveOf } from "../../protocol/objective.ts";
import type { Dataset } from "../data/dataset.ts";

/**
 * What a job minimises on its data.
 * @throws RingfoldError JOB_INVALID where the data cannot have such a loss, or such metrics
 */
export function objectiveOn(
  spec: Pick<JobSpec, "loss" | "metrics" | "evaluation">,
  { shape, classCounts }: Pick<Dataset, "shape" | "classCounts">,
): Objective {
  checkObjective(spec, shape.target);
  return objectiveOf(spec.loss, shape.target, classCounts);
}
