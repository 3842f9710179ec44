import {
  compileKernels,
  type KernelMemory,
  openMemory,
  wasmPageBytes,
} from "../../ring/kernels/compiled-kernels.ts";

interface Kernels {
  adam(
    parameters: number,
    gradient: number,
    firstMoment: number,
    secondMoment: number,
    count: number,
    beta1: number,
    beta2: number,
    gain1: number,
    gain2: number,
    rate: number,
    correction: number,
    epsilon: number,
  ): void;
}

/** Elements that pass through the kernel at once: four arrays of them stay in the second-level cache. */
const blockElements = 4_096;
const blockBytes = 4 * blockElements;
const pages = (4 * blockBytes) / wasmPageBytes;

/** The arrays of a step, f32 and of one length; the gradient is only read. */
export interface AdamArrays {
  readonly parameters: Float32Array;
  readonly gradient: Float32Array;
  readonly firstMoment: Float32Array;
  readonly secondMoment: Float32Array;
}

/** The corrections are 1 / (1 - betaᵗ). */
export interface AdamNumbers {
  readonly beta1: number;
  readonly beta2: number;
  readonly rate: number;
  readonly correction1: number;
  readonly correction2: number;
  readonly epsilon: number;
}

const openKernels = compileKernels<Kernels, KernelMemory>(new URL("kernels.wasm", import.meta.url));

/**
 * A step of Adam, in place, block by block through a memory of its own: the arrays lie wherever their owners want them. All
 * in f32, as PyTorch has it: f64 in between takes three times as long and is lost in the rounding of the moments.
 * Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
 */
export function adamStepper(): (arrays: AdamArrays, numbers: AdamNumbers) => void {
  const memory = openMemory(pages);
  const kernels = openKernels(memory);
  const block = (index: number) => new Float32Array(memory.buffer, index * blockBytes, blockElements);
  const [p, g, m, v] = [block(0), block(1), block(2), block(3)];
  return ({ parameters, gradient, firstMoment, secondMoment }, numbers) => {
    const { beta1, beta2, rate, correction1, correction2, epsilon } = numbers;
    for (let start = 0; start < parameters.length; start += blockElements) {
      const end = Math.min(start + blockElements, parameters.length);
      const count = end - start;
      p.set(parameters.subarray(start, end));
      g.set(gradient.subarray(start, end));
      m.set(firstMoment.subarray(start, end));
      v.set(secondMoment.subarray(start, end));
      const pointers = [p.byteOffset, g.byteOffset, m.byteOffset, v.byteOffset] as const;
      // Four at a time: behind an odd end the kernel computes on what an earlier block has left there.
      const whole = 4 * Math.ceil(count / 4);
      const rates = [rate * correction1, correction2, epsilon] as const;
      kernels.adam(...pointers, whole, beta1, beta2, 1 - beta1, 1 - beta2, ...rates);
      parameters.set(p.subarray(0, count), start);
      firstMoment.set(m.subarray(0, count), start);
      secondMoment.set(v.subarray(0, count), start);
    }
  };
}
