import type { Feature } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

/** How many there are of a category or token. @throws RingfoldError DATA_INVALID when the data does not say */
export function cardinalityOf({ name, cardinality }: Feature): number {
  if (cardinality !== undefined) return cardinality;
  throw new RingfoldError("DATA_INVALID", `the data does not say how many values ${name} has`, {
    feature: name,
  });
}
