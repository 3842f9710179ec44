import type { Runtime } from "./runtime.ts";

/** Side of the square matrices: 4 MiB in all, the size of a middling dense layer. */
const side = 512;
const rounds = 5;

/**
 * The best of a few matrix products of fixed size, in GFLOP/s of f32: multiply-adds count as two. Cost: tens of
 * milliseconds, on the cpu engine about two seconds (it does a smaller product).
 */
export async function measureGflops(runtime: Runtime): Promise<number> {
  const { tf } = runtime;
  const length = runtime.name === "cpu" ? side / 4 : side;
  runtime.activate();
  const a = tf.randomUniform([length, length], -1, 1, "float32", 1);
  const b = tf.randomUniform([length, length], -1, 1, "float32", 2);
  const probe = new Float32Array(1);
  let bestMs = Number.POSITIVE_INFINITY;
  try {
    for (let round = 0; round <= rounds; round++) {
      runtime.activate();
      const startMs = performance.now();
      const corner = tf.tidy(() => tf.reshape(tf.slice(tf.matMul(a, b), [0, 0], [1, 1]), [1]));
      // Reading one number back is what ends the computation on a device that works asynchronously.
      await runtime.read([{ tensor: corner, into: probe }]);
      corner.dispose();
      // The first round compiles.
      if (round > 0) bestMs = Math.min(bestMs, performance.now() - startMs);
    }
  } finally {
    tf.dispose([a, b]);
  }
  return (2 * length ** 3) / (bestMs * 1e6);
}
