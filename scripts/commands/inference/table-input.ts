import { prepareRows } from "../../../agent/data/preparation/raw-rows.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { CommandContext } from "../command.ts";
import type { PredictionInput } from "./prediction-input.ts";
import { servedVersion } from "./served-version.ts";

/**
 * Rows of a table, prepared as those that the version was trained on.
 * @throws RingfoldError NOT_FOUND when the version was trained on no registered data set; DATA_INVALID
 */
export async function readTableInput(
  path: string,
  reference: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<PredictionInput> {
  const { dataset } = await servedVersion(reference, context);
  if (!dataset) {
    throw new RingfoldError(
      "NOT_FOUND",
      `${reference.name} was not trained on a data set that is registered now`,
      {
        remedy: "Prepare the inputs yourself, and give them with --input.",
      },
    );
  }
  const { count, data } = await prepareRows(path, dataset.manifest, context.signal);
  return { shape: [count, ...dataset.manifest.shape.inputShape], data };
}
