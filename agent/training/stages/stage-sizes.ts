import { stageCountMax } from "../../../protocol/job-spec.ts";
import { shardCountMaxOf } from "../../../protocol/layer-cut.ts";
import type { StageSizes } from "../../../protocol/messages/job-report.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import { bytesNeeded, forecastMemory, type TrainingMemory } from "../memory-forecast.ts";
import { cutIntoStages, forecastStage, type StageSpec } from "./stage-cut.ts";

/**
 * What each stage would take on this machine if the model were cut into 1, 2, 3 ... of them, up to the first number at which
 * each fits. By shapes alone: nothing is built.
 */
export function stageSizes(
  spec: StageSpec,
  description: ModelDescription,
  machine: TrainingMemory,
): StageSizes {
  const { memoryBytes } = machine;
  const stagesMax = Math.min(shardCountMaxOf(description), stageCountMax(spec));
  const stageBytes: (number | null)[][] = [];
  for (let stages = 1; stages <= stagesMax; stages++) {
    const staged = { ...spec, stages };
    const forecasts =
      stages === 1
        ? [forecastMemory({ ...spec, stages: undefined }, description)]
        : cutIntoStages(staged, description).map((range) => forecastStage(staged, description, range));
    const row = forecasts.map((forecast) => {
      const bytes = bytesNeeded(forecast, machine);
      return Number.isFinite(bytes) ? bytes : null;
    });
    stageBytes.push(row);
    if (row.every((bytes) => bytes !== null && bytes <= memoryBytes)) break;
  }
  return { memoryBytes, stagesMax, stageBytes };
}
