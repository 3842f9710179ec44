import { z } from "zod";
import { commonConfig } from "./config.ts";
import { type LayerGeometry, noWeights, ShapeMismatch, sizeOf } from "./geometry.ts";

/** Layers that make one tensor of several. */

type Shapes = readonly (readonly number[])[];
const text = (shapes: Shapes): string => shapes.map((shape) => `[${shape.join(", ")}]`).join(" and ");

export const mergeSchema = z.strictObject({ ...commonConfig });
/** Shapes must be equal: TF.js broadcasts, but then not in the same way as Keras. */
export function addGeometry(_config: unknown, shapes: Shapes): LayerGeometry {
  const [first = [], ...others] = shapes;
  if (others.length === 0) throw new ShapeMismatch("needs two inputs or more");
  if (others.some((shape) => shape.join() !== first.join())) {
    throw new ShapeMismatch(`needs inputs of one shape, but ${text(shapes)} come in`);
  }
  return noWeights(first, others.length * sizeOf(first));
}

export function subtractGeometry(config: unknown, shapes: Shapes): LayerGeometry {
  if (shapes.length !== 2) throw new ShapeMismatch(`needs two inputs, but has ${shapes.length}`);
  return addGeometry(config, shapes);
}

/** Along the last axis only. */
export const concatenateSchema = z.strictObject({ ...commonConfig, axis: z.number().int().default(-1) });
export function concatenateGeometry(
  { axis }: z.output<typeof concatenateSchema>,
  shapes: Shapes,
): LayerGeometry {
  const [first = [], ...others] = shapes;
  if (others.length === 0) throw new ShapeMismatch("needs two inputs or more");
  if (axis !== -1 && axis !== first.length)
    throw new ShapeMismatch("joins along the last axis only: axis -1");
  const leading = (shape: readonly number[]) => shape.slice(0, -1).join();
  if (first.length === 0 || others.some((shape) => leading(shape) !== leading(first))) {
    throw new ShapeMismatch(`cannot join ${text(shapes)}: they differ before the last axis`);
  }
  const width = shapes.reduce((sum, shape) => sum + shape.at(-1)!, 0);
  return noWeights([...first.slice(0, -1), width]);
}

const last = z.union([z.literal(1), z.literal(-1)]);
/** The scalar product of two vectors an example. */
export const dotSchema = z.strictObject({
  ...commonConfig,
  axes: z.union([last, z.tuple([last, last])]),
  normalize: z.literal(false).default(false),
});
export function dotGeometry(_config: unknown, shapes: Shapes): LayerGeometry {
  const [first, second] = shapes;
  if (shapes.length !== 2 || first?.length !== 1 || second?.join() !== first.join()) {
    throw new ShapeMismatch(`needs two vectors of one length, but ${text(shapes)} come in`);
  }
  return noWeights([1], sizeOf(first));
}
