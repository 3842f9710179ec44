import type { Tensor } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import type { Training } from "./layer-run.ts";
import type { Runtime } from "./runtime.ts";

/**
 * 0 for what falls out and 1 / (1 - rate) for what stays, in the shape of `x`. It follows from the job's seed, the step, the
 * layer's name and the example, so it is the same on whichever rank an example is, with whatever engine, and after a resume.
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, for generators that count; the mixing function
 * is the finalizer of MurmurHash3. Cost: about 3 ns an element.
 */
export function dropoutMask(
  { tf }: Runtime,
  { name, config: { rate } }: Extract<Layer, { kind: "Dropout" }>,
  x: Tensor,
  { seed, step, examples }: Training,
): Tensor {
  const width = x.size / x.shape[0]!;
  const scale = 1 / (1 - rate);
  const threshold = rate * 2 ** 32;
  const mask = new Float32Array(x.size);
  let key = mixed(seed ^ mixed(step));
  for (let i = 0; i < name.length; i++) key = mixed(key ^ name.charCodeAt(i));
  for (let row = 0; row < x.shape[0]!; row++) {
    const exampleKey = mixed(key ^ mixed(examples[row]! + 1));
    for (let i = 0; i < width; i++) {
      const draw = mixed(exampleKey + Math.imul(i, 0x9e37_79b9)) >>> 0;
      mask[row * width + i] = draw < threshold ? 0 : scale;
    }
  }
  return tf.tensor(mask, x.shape);
}

function mixed(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
