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
    share: number,
  ): void;
}

/** Elements that pass through the kernel at once: four arrays of them stay in the second-level cache. */
const blockElements = 4_096;
const blockBytes = 4 * blockElements;
const scratchBytes = 4 * blockBytes;
/** The largest memory that WebAssembly addresses with 32 bits. */
const memoryBytesMax = 65_536 * wasmPageBytes;

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
  /** What the gradient is multiplied by first. */
  readonly share: number;
}

const openKernels = compileKernels<Kernels, KernelMemory>(new URL("kernels.wasm", import.meta.url));

/** A memory of the kernel: four blocks that arrays from elsewhere pass through, and the arrays of a state behind them. */
function openHome(arrayBytes: number) {
  const memory = openMemory(Math.ceil((scratchBytes + arrayBytes) / wasmPageBytes));
  const block = (index: number) => new Float32Array(memory.buffer, index * blockBytes, blockElements);
  return { memory, kernels: openKernels(memory), p: block(0), g: block(1), m: block(2), v: block(3) };
}
type Home = ReturnType<typeof openHome>;

/**
 * Steps of Adam, in place, all in f32, as PyTorch has it: f64 in between takes three times as long and is lost in the rounding
 * of the moments. Arrays that `newArrays` has made stay where they are, others pass through the kernel's memory block by block,
 * which takes twice as long.
 * Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
 */
export function adamStepper(): {
  readonly newArrays: (length: number) => Omit<AdamArrays, "gradient">;
  readonly step: (arrays: AdamArrays, numbers: AdamNumbers) => void;
} {
  let home = openHome(0);
  return {
    newArrays: (length) => {
      const arrayBytes = blockBytes * Math.ceil(length / blockElements);
      if (scratchBytes + 3 * arrayBytes > memoryBytesMax) {
        const array = () => new Float32Array(length);
        return { parameters: array(), firstMoment: array(), secondMoment: array() };
      }
      home = openHome(3 * arrayBytes);
      const array = (index: number) =>
        new Float32Array(home.memory.buffer, scratchBytes + index * arrayBytes, length);
      return { parameters: array(0), firstMoment: array(1), secondMoment: array(2) };
    },
    step: (arrays, numbers) => {
      const isAtHome = arrays.parameters.buffer === home.memory.buffer;
      const stepBlock = isAtHome ? stepInPlace : stepThrough;
      for (let start = 0; start < arrays.parameters.length; start += blockElements) {
        const end = Math.min(start + blockElements, arrays.parameters.length);
        home.g.set(arrays.gradient.subarray(start, end));
        stepBlock(home, arrays, { start, end }, numbers);
      }
    },
  };
}

interface Block {
  readonly start: number;
  readonly end: number;
}

function stepInPlace(home: Home, arrays: AdamArrays, { start, end }: Block, numbers: AdamNumbers): void {
  const { parameters, firstMoment, secondMoment } = arrays;
  const at = (array: Float32Array) => array.byteOffset + 4 * start;
  runKernel(home, [at(parameters), at(firstMoment), at(secondMoment)], end - start, numbers);
}

function stepThrough(home: Home, arrays: AdamArrays, { start, end }: Block, numbers: AdamNumbers): void {
  const { p, m, v } = home;
  const { parameters, firstMoment, secondMoment } = arrays;
  p.set(parameters.subarray(start, end));
  m.set(firstMoment.subarray(start, end));
  v.set(secondMoment.subarray(start, end));
  runKernel(home, [p.byteOffset, m.byteOffset, v.byteOffset], end - start, numbers);
  parameters.set(p.subarray(0, end - start), start);
  firstMoment.set(m.subarray(0, end - start), start);
  secondMoment.set(v.subarray(0, end - start), start);
}

/** @param pointers of parameters, first and second moment */
function runKernel(
  { kernels, g }: Home,
  [p, m, v]: readonly [number, number, number],
  count: number,
  { beta1, beta2, rate, correction1, correction2, epsilon, share }: AdamNumbers,
): void {
  // Four at a time: behind an odd end the kernel computes on what nobody reads.
  const whole = 4 * Math.ceil(count / 4);
  const rates = [rate * correction1, correction2, epsilon, share] as const;
  kernels.adam(p, g.byteOffset, m, v, whole, beta1, beta2, 1 - beta1, 1 - beta2, ...rates);
}
