import type { TensorInfo } from "@tensorflow/tfjs";
import { sizeOf } from "./heap.ts";
import { kernelFlags } from "./module.ts";
import { ask, type KernelHost, type TensorHost } from "./override.ts";

interface Product {
  readonly a: TensorInfo;
  readonly b: TensorInfo;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** With a bias or ReLU the operands must not be batched. */
  readonly bias?: TensorInfo | undefined;
  readonly relu?: boolean;
}

/**
 * a [..., m, k] · b [..., k, n] in any transposition. Undefined for a batch that is broadcast within, [2, 1] by [1, 2].
 * Cost: TF.js's own kernel runs at 24 GFLOP/s plain and at 1-2 transposed; this one at 44-47 in each case.
 */
export function matMul({ tf, heap }: TensorHost, product: Product): TensorInfo | undefined {
  const { a, b, transposeA, transposeB, bias, relu } = product;
  const leadA = a.shape.slice(0, -2);
  const leadB = b.shape.slice(0, -2);
  const lead = tf.broadcast_util.assertAndGetBroadcastShape(leadA, leadB);
  const batch = sizeOf(lead);
  const batchA = sizeOf(leadA);
  const batchB = sizeOf(leadB);
  if ((batchA !== batch && batchA !== 1) || (batchB !== batch && batchB !== 1)) return undefined;
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const m = transposeA ? columnsA : rowsA;
  const k = transposeA ? rowsA : columnsA;
  const n = transposeB ? rowsB : columnsB;
  if (k !== (transposeB ? columnsB : rowsB)) throw new Error(`matMul: inner sizes differ, ${k} of a`);
  const out = heap.output([...lead, m, n]);
  const { kernels } = heap;
  const scratch = heap.scratch(kernels.gemmScratch());
  const left = [heap.at(a), transposeA ? 1 : columnsA, transposeA ? columnsA : 1] as const;
  const right = [heap.at(b), transposeB ? 1 : columnsB, transposeB ? columnsB : 1] as const;
  if (batch === 1) {
    const flags = (bias ? kernelFlags.bias : 0) | (relu ? kernelFlags.relu : 0);
    kernels.gemm(m, n, k, ...left, ...right, heap.at(out), n, flags, bias ? heap.at(bias) : 0, scratch);
  } else {
    const stepA = batchA === 1 ? 0 : m * k;
    const stepB = batchB === 1 ? 0 : k * n;
    kernels.gemmBatch(batch, stepA, stepB, m * n, m, n, k, ...left, ...right, heap.at(out), scratch);
  }
  return out;
}

/** Whether the fused activation is one that gemm and conv2d apply on the way to memory. */
export const isFusable = (activation: string | undefined): boolean =>
  activation === undefined || activation === "linear" || activation === "relu";

/** Whether a bias of that shape is one value a column. */
export const isColumnBias = (bias: TensorInfo | undefined, columns: number): boolean =>
  bias === undefined || (bias.dtype === "float32" && bias.shape.length === 1 && bias.shape[0] === columns);

export function registerMatMul(host: KernelHost): void {
  interface Transposition {
    readonly transposeA: boolean;
    readonly transposeB: boolean;
  }
  host.override<Transposition>("BatchMatMul", (inputs, { transposeA, transposeB }) => {
    const a = ask(inputs, "a");
    const b = ask(inputs, "b");
    return a && b ? matMul(host, { a, b, transposeA, transposeB }) : undefined;
  });
  host.override<Transposition & { readonly activation?: string }>(
    "_FusedMatMul",
    (inputs, { transposeA, transposeB, activation }) => {
      const a = ask(inputs, "a");
      const b = ask(inputs, "b");
      if (!a || !b || inputs.preluActivationWeights || !isFusable(activation)) return undefined;
      if (sizeOf(a.shape.slice(0, -2)) * sizeOf(b.shape.slice(0, -2)) !== 1) return undefined;
      const columns = b.shape.at(transposeB ? -2 : -1) ?? 0;
      if (!isColumnBias(inputs.bias, columns)) return undefined;
      return matMul(host, { a, b, transposeA, transposeB, bias: inputs.bias, relu: activation === "relu" });
    },
  );
}
