import { z } from "zod";
import { commonConfig, dataFormatSchema, sidesSchema } from "./config.ts";
import { imageShape, type LayerGeometry, noWeights, sizeOf } from "./geometry.ts";

/** Layers that change the sides of an image and have nothing to learn. */

const border = z.number().int().min(0).max(1_024);
const borders = z
  .union([border, z.tuple([border, border])])
  .transform((given): [number, number] => (typeof given === "number" ? [given, given] : given));

/** One number for all four sides; or for [height, width], each a number or [before, after]. */
export const zeroPaddingSchema = z.strictObject({
  ...commonConfig,
  data_format: dataFormatSchema,
  padding: z
    .union([border, z.tuple([borders, borders])])
    .default(1)
    .transform((given): [[number, number], [number, number]] =>
      typeof given === "number"
        ? [
            [given, given],
            [given, given],
          ]
        : given,
    ),
});
export function zeroPaddingGeometry(
  { padding: [vertical, horizontal] }: z.output<typeof zeroPaddingSchema>,
  shape: readonly number[],
): LayerGeometry {
  const [height, width, channels] = imageShape(shape);
  const outputShape = [height + vertical[0] + vertical[1], width + horizontal[0] + horizontal[1], channels];
  return noWeights(outputShape, sizeOf(outputShape));
}

/** Each pixel becomes as many as `size` says. */
export const upSamplingSchema = z.strictObject({
  ...commonConfig,
  data_format: dataFormatSchema,
  size: sidesSchema.default([2, 2]),
  interpolation: z.literal("nearest").default("nearest"),
});
export function upSamplingGeometry(
  { size }: z.output<typeof upSamplingSchema>,
  shape: readonly number[],
): LayerGeometry {
  const [height, width, channels] = imageShape(shape);
  const outputShape = [height * size[0], width * size[1], channels];
  return noWeights(outputShape, sizeOf(outputShape));
}
