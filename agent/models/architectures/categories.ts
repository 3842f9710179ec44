import type { ExampleShape, Feature } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

/** How many there are of a category or token. @throws RingfoldError DATA_INVALID when the data does not say */
export function cardinalityOf({ name, cardinality }: Feature): number {
  if (cardinality !== undefined) return cardinality;
  throw new RingfoldError("DATA_INVALID", `the data does not say how many values ${name} has`, {
    feature: name,
  });
}

/**
 * The sequences of tokens that a model takes, in their order in the data.
 * @throws RingfoldError JOB_INVALID when the data has others, or another number of them
 */
export function tokenFeatures(
  architecture: string,
  { features = [] }: ExampleShape,
  count: number,
): Feature[] {
  const isText = features.every(({ kind, shape }) => kind === "category" && shape.length === 1);
  if (isText && features.length === count) return features;
  const wanted = count === 1 ? "one sequence of tokens" : `${count} sequences of tokens`;
  const found = features.map(({ name, kind, shape }) => `${name}: ${kind} [${shape.join(", ")}]`).join("; ");
  const message = `a ${architecture} model needs ${wanted} and nothing else, but the data has ${found || "none"}`;
  throw new RingfoldError("JOB_INVALID", message, { features: features.map(({ name }) => name) });
}
