import { prepareRows } from "../../../agent/data/preparation/raw-rows.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { connectApi } from "../api-client.ts";
import type { CommandContext } from "../command.ts";
import type { PredictionInput } from "./prediction-input.ts";

/**
 * Rows of a table, prepared as those that the version was trained on.
 * @throws RingfoldError NOT_FOUND when the version was trained on no registered data set; DATA_INVALID
 */
export async function readTableInput(
  path: string,
  { name, version }: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<PredictionInput> {
  const api = await connectApi(context);
  const live = async () => (await api.deployments()).find((view) => view.live && view.name === name)?.version;
  const { manifest } = await api.version(name, version ?? (await live()) ?? 1);
  const { dataDigest } = manifest.lineage;
  const dataset = (await api.datasets()).find(({ digest }) => digest === dataDigest);
  if (!dataset) {
    throw new RingfoldError("NOT_FOUND", `${name} was not trained on a data set that is registered now`, {
      remedy: "Prepare the inputs yourself, and give them with --input.",
    });
  }
  const detail = await api.dataset(dataset.name, dataset.version);
  const { count, data } = await prepareRows(path, detail.manifest, context.signal);
  return { shape: [count, ...detail.manifest.shape.inputShape], data };
}
