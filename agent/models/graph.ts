import type { ExampleShape } from "../../protocol/data-schema.ts";
import type { Layer } from "./layers/kinds.ts";

/** A layer as TF.js and Keras write it. */
export interface LayerJson {
  readonly class_name: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** A layer that has yet to be checked, with what it takes: see `Layer`. */
export interface Node {
  readonly json: LayerJson;
  readonly sources: readonly number[];
  readonly causal: boolean;
}

/** What of an example a topology must fit. */
export type RowShape = Pick<ExampleShape, "inputShape" | "features">;

/** One input of a model, and where it lies in the row of an example. */
export interface ModelInput {
  readonly name: string;
  /** Without the batch dimension. */
  readonly shape: readonly number[];
  /** In elements of the row. */
  readonly offset: number;
  readonly elementCount: number;
}

/** A model without its weights. */
export interface Graph {
  readonly inputs: readonly ModelInput[];
  /** Each comes after all that it takes; the last one is the output. */
  readonly layers: readonly Layer[];
}
