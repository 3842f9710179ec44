import type { ExampleShape, Feature } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingOf } from "../ending.ts";
import { cardinalityOf } from "./categories.ts";
import { Wiring } from "./wiring.ts";

type TwoTowerSpec = Extract<ModelSpec, { architecture: "two-tower" }>;

/**
 * A vector and a bias for each of two things that meet (user and item): the answer is the scalar product of the vectors
 * plus the biases. With `hidden` a tower of dense layers stands on each vector; without, it is matrix factorisation.
 * Source: Koren, Bell & Volinsky, "Matrix factorization techniques for recommender systems", 2009.
 */
export function twoTowerTopology(
  spec: TwoTowerSpec,
  { features = [], target }: ExampleShape,
): Record<string, unknown> {
  const categories = features.filter(({ kind }) => kind === "category");
  if (categories.length !== 2 || features.length !== 2) {
    const message = `a two-tower model needs two categories and nothing else, but the data has ${features.length} features`;
    throw new RingfoldError("JOB_INVALID", message, { features: features.map(({ name }) => name) });
  }
  if (target.kind !== "number" && target.kind !== "binary") {
    const message = `a two-tower model gives a number or a chance, and the target is of kind ${target.kind}`;
    throw new RingfoldError("JOB_INVALID", message, { target: target.kind });
  }
  const wiring = new Wiring();
  const towers = categories.map((feature) => tower(wiring, feature, spec));
  const product = wiring.layer(
    "Dot",
    "product",
    { axes: -1, normalize: false },
    ...towers.map(({ top }) => top),
  );
  const sum = wiring.layer("Add", "sum", {}, product, ...towers.map(({ bias }) => bias));
  // One unit that begins as the identity: its bias is the mean of all.
  const answer = {
    units: 1,
    activation: endingOf(target),
    kernel_initializer: { class_name: "Ones", config: {} },
  };
  return wiring.topology("two_tower", wiring.layer("Dense", "answer", answer, sum));
}

function tower(
  wiring: Wiring,
  feature: Feature,
  { width, hidden }: TwoTowerSpec,
): { top: string; bias: string } {
  const { name } = feature;
  const input = wiring.input(feature);
  const input_dim = cardinalityOf(feature);
  const embed = (part: string, output_dim: number) => {
    const embedding = wiring.layer("Embedding", `${name}_${part}`, { input_dim, output_dim }, input);
    return wiring.layer("Flatten", `${name}_${part}_flat`, {}, embedding);
  };
  let top = embed("vector", width);
  for (const [i, units] of hidden.entries()) {
    const activation = i === hidden.length - 1 ? "linear" : "relu";
    top = wiring.layer("Dense", `${name}_dense_${i + 1}`, { units, activation }, top);
  }
  return { top, bias: embed("bias", 1) };
}
