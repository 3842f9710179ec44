import type { Tensor, TensorInfo } from "@tensorflow/tfjs";
import { sizeOf } from "../heap.ts";
import type { KernelHost } from "../override.ts";
import { define, ready, runner } from "./kernel.ts";

interface Attributes {
  readonly heads: number;
  readonly causal: boolean;
}

/** [result, probabilities]. The probabilities are kept for the gradient: batch · heads · queries · keys floats. */
export function defineAttention(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  const sizesOf = (q: TensorInfo, k: TensorInfo, heads: number) => {
    const [batch, queries, width] = q.shape as [number, number, number];
    return [batch, queries, k.shape[1]!, heads, width / heads] as const;
  };
  define(host, "RingfoldAttention", ({ q, k, v, mask }, { heads, causal }: Attributes) => {
    const sizes = sizesOf(q!, k!, heads);
    const [batch, queries, keys] = sizes;
    const probabilities = heap.kept(batch * heads * queries * keys);
    const out = heap.output(q!.shape);
    const inputs = [heap.at(q!), heap.at(k!), heap.at(v!), mask ? heap.at(mask) : 0] as const;
    const results = [heap.at(probabilities), heap.at(out), heap.scratch(heap.kernels.gemmScratch())] as const;
    heap.kernels.attention(...inputs, ...sizes, causal ? 1 : 0, ...results);
    return [out, probabilities];
  });
  define(host, "RingfoldAttentionGrad", ({ q, k, v, probabilities, dy }, { heads }: Attributes) => {
    const sizes = sizesOf(q!, k!, heads);
    const [dq, dk, dv] = [heap.output(q!.shape), heap.output(k!.shape), heap.output(v!.shape)];
    const gemmFloats = heap.kernels.gemmScratch();
    const scratch = heap.scratch(gemmFloats + sizes[1] * sizes[2]);
    const inputs = [q!, k!, v!, probabilities!, dy!].map((tensor) => heap.at(tensor));
    const results = [heap.at(dq), heap.at(dk), heap.at(dv), scratch + 4 * gemmFloats, scratch] as const;
    heap.kernels.attentionGrad(...(inputs as [number, number, number, number, number]), ...sizes, ...results);
    return [dq, dk, dv];
  });
  tf.registerGradient({
    kernelName: "RingfoldAttention",
    inputsToSave: ["q", "k", "v"],
    outputsToSave: [false, true],
    gradFunc: (dy, [q, k, v, probabilities], attributes) => {
      const inputs = { q: q!, k: k!, v: v!, probabilities: probabilities!, dy: (dy as Tensor[])[0]! };
      const [dq, dk, dv] = run("RingfoldAttentionGrad", inputs, attributes);
      return ready({ q: dq, k: dk, v: dv });
    },
  });
}

/** Rows of a table; the gradient sums the rows that met the same id. */
export function defineEmbedding(host: KernelHost): void {
  const { heap, tf } = host;
  define(host, "RingfoldEmbedding", ({ table, ids }) => {
    const [rows, width] = table!.shape as [number, number];
    const out = heap.output([...ids!.shape, width]);
    heap.kernels.gatherRows(heap.at(table!), rows, heap.at(ids!), sizeOf(ids!.shape), width, heap.at(out));
    return out;
  });
  tf.registerGradient({
    kernelName: "RingfoldEmbedding",
    inputsToSave: ["table", "ids"],
    gradFunc: (dy, [table, ids]) => ({
      table: () => {
        const [rows, width] = table!.shape as [number, number];
        const flat = tf.reshape(dy as Tensor, [-1, width]);
        return tf.unsortedSegmentSum(flat, tf.reshape(ids!, [-1]) as never, rows);
      },
    }),
  });
}
