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
  const { data } = await servedVersion(reference, context);
  if (!data) {
    throw new RingfoldError("NOT_FOUND", `${reference.name} was not trained on a registered data set`, {
      remedy: "Prepare the inputs yourself, and give them with --input.",
    });
  }
  const rows = await prepareRows(path, data, context.signal);
  return { shape: [rows.count, ...data.shape.inputShape], data: rows.data };
}
