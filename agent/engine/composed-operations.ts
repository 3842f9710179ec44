import type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "@tensorflow/tfjs";
import type { AttentionOptions, GeluForm, Operations, Tf } from "./runtime.ts";

/** The operations as TF.js composes them: right on every engine. */
export function composedOperations(tf: Tf): Operations {
  return {
    dense(x, kernel, bias, relu) {
      const product = tf.matMul(x, kernel) as Tensor2D;
      const shifted = bias ? tf.add<Tensor2D>(product, bias) : product;
      return relu ? tf.relu(shifted) : shifted;
    },
    conv2d(x, filter, bias, { strides, padding, dilations = [1, 1], relu }) {
      const product = tf.conv2d(x, spread(tf, filter, dilations), strides, padding) as Tensor4D;
      const shifted = bias ? tf.add<Tensor4D>(product, bias) : product;
      return relu ? tf.relu(shifted) : shifted;
    },
    crossEntropy(logits, labels) {
      const classCount = logits.shape[1];
      // A label outside the classes gives a row of zeros, and is the place of no maximum.
      const picked = tf.mul(tf.oneHot(labels, classCount), tf.logSoftmax(logits));
      const hits = tf.equal(tf.argMax<Tensor1D>(logits, 1), labels);
      return { loss: tf.neg<Scalar>(tf.sum(picked)), correct: tf.sum(tf.cast(hits, "float32")) };
    },
    layerNorm: (x, gamma, beta, epsilon) => normalize(tf, x, [x.rank - 1], { gamma, beta, epsilon }).y,
    batchNorm(x, gamma, beta, epsilon) {
      const axes = x.shape.map((_, axis) => axis).slice(0, -1);
      const { y, mean, variance } = normalize(tf, x, axes, { gamma, beta, epsilon });
      return {
        y,
        mean: tf.reshape(mean, [-1]) as Tensor1D,
        variance: tf.reshape(variance, [-1]) as Tensor1D,
      };
    },
    gelu: (x, form) => gelu(tf, x, form),
    attention: (q, k, v, options) => attention(tf, [q, k, v], options),
    embedding: (table, ids) => tf.gather(table, ids as Tensor1D),
  };
}

/** A filter with zeros between its taps: TF.js has no gradient of a dilated convolution. */
export function spread(tf: Tf, filter: Tensor4D, [down, across]: readonly [number, number]): Tensor4D {
  if (down === 1 && across === 1) return filter;
  const [height, width, from, to] = filter.shape;
  // In three axes at a time: the webgpu backend pads no more than four, and does not say so.
  const rows = tf.pad(tf.reshape(filter, [height, 1, width * from * to]), [
    [0, 0],
    [0, down - 1],
    [0, 0],
  ]);
  const taps = tf.reshape(rows, [height * down * width, 1, from * to]);
  const apart = tf.pad(taps, [
    [0, 0],
    [0, across - 1],
    [0, 0],
  ]);
  const whole = tf.reshape(apart, [height * down, width * across, from, to]);
  return tf.slice(whole, 0, [(height - 1) * down + 1, (width - 1) * across + 1, from, to]) as Tensor4D;
}

interface Affine {
  readonly gamma: Tensor1D | null;
  readonly beta: Tensor1D | null;
  readonly epsilon: number;
}

function normalize(tf: Tf, x: Tensor, axes: number[], { gamma, beta, epsilon }: Affine) {
  const { mean, variance } = tf.moments(x, axes, true);
  const normalized = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, epsilon)));
  const scaled = gamma ? tf.mul(normalized, gamma) : normalized;
  return { y: beta ? tf.add(scaled, beta) : scaled, mean, variance };
}

function gelu(tf: Tf, x: Tensor, form: GeluForm): Tensor {
  const half = tf.mul(x, 0.5);
  if (form === "erf") return tf.mul(half, tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
  const inner = tf.add(x, tf.mul(0.044715, tf.mul(x, tf.square(x))));
  return tf.mul(half, tf.add(1, tf.tanh(tf.mul(inner, Math.sqrt(2 / Math.PI)))));
}

/** Written with matMul, reshape and transpose, which train on every backend; Einsum has no gradient on any. */
function attention(
  tf: Tf,
  [q, k, v]: readonly [Tensor3D, Tensor3D, Tensor3D],
  { heads, causal, keyMask }: AttentionOptions,
): Tensor3D {
  const [batch, queries, width] = q.shape;
  const keys = k.shape[1];
  const byHead = (x: Tensor3D) =>
    tf.transpose(tf.reshape(x, [batch, x.shape[1], heads, width / heads]), [0, 2, 1, 3]);
  const scores = tf.mul(tf.matMul(byHead(q), byHead(k), false, true), 1 / Math.sqrt(width / heads));
  const allowed = visibility(tf, { queries, keys, causal, keyMask });
  // The factor is for queries that see nothing: the softmax has spread their weight over everything.
  const weights = allowed
    ? tf.mul(tf.softmax(tf.add(scores, tf.mul(tf.sub(allowed, 1), 1e9))), allowed)
    : tf.softmax(scores);
  return tf.reshape(tf.transpose(tf.matMul(weights, byHead(v)), [0, 2, 1, 3]), [batch, queries, width]);
}

/** 1 where a query may see a key, in a shape that broadcasts to [batch, heads, queries, keys]; null for everywhere. */
function visibility(
  tf: Tf,
  options: Pick<AttentionOptions, "causal" | "keyMask"> & { readonly queries: number; readonly keys: number },
): Tensor | null {
  const { queries, keys, causal, keyMask } = options;
  const mask = keyMask ? tf.reshape(keyMask, [-1, 1, 1, keys]) : null;
  if (!causal) return mask;
  const last = tf.add(tf.reshape(tf.range(0, queries), [queries, 1]), keys - queries);
  const past = tf.cast(tf.lessEqual(tf.reshape(tf.range(0, keys), [1, keys]), last), "float32");
  return mask ? tf.mul(past, mask) : past;
}
