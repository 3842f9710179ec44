import type { StageModel } from "../../engine/port.ts";
import type { Column } from "./column.ts";

/**
 * Brings the parameters of all stages to every rank of a column: towards the last stage each adds its own to those before
 * it, and from there the rest comes back.
 *
 * @param own f32, of this stage
 * @returns f32 [parameterCount of the model], in the order of the layers
 * @throws RingfoldError as `Column.receive`
 * Cost: every link carries each parameter once.
 */
export async function gatherWeights(
  column: Column,
  { description, range }: Pick<StageModel, "description" | "range">,
  own: Float32Array,
  signal: AbortSignal,
): Promise<Float32Array> {
  const whole = new Float32Array(description.parameterCount);
  const start = description.layers
    .slice(0, range.fromLayer)
    .reduce((count, { parameterCount }) => count + parameterCount, 0);
  const end = start + own.length;
  whole.set(own, start);
  // Nothing is sent where there are no parameters: both ends count them alike.
  if (!column.isFirst && start > 0) await column.receive("before", "bytes", whole.subarray(0, start), signal);
  if (!column.isLast && end > 0) column.send("after", "bytes", whole.subarray(0, end));
  if (!column.isLast && end < whole.length)
    await column.receive("after", "bytes", whole.subarray(end), signal);
  if (!column.isFirst && start < whole.length) column.send("before", "bytes", whole.subarray(start));
  await column.left(signal);
  return whole;
}
