import type { Operations, Runtime, Tf } from "../../agent/engine/runtime.ts";
import type { Trainee } from "./engine-workload.ts";

// TF.js is the engines' own: its types come from theirs.
type Tensor = ReturnType<Tf["tensor"]>;
type Tensor1D = ReturnType<Tf["tensor1d"]>;
type Tensor2D = Parameters<Operations["dense"]>[0];
type Tensor3D = Parameters<Operations["attention"]>[0];

/** As in engine-torch.py. */
const sizes = { vocabulary: 256, tokens: 64, width: 128, heads: 4, hidden: 512 } as const;
const epsilon = 1e-5;

/** A Transformer block between byte embeddings and logits, 267,520 parameters; norms in front, causal attention, GELU. */
export function openTransformer(runtime: Runtime, exampleCount: number): Trainee {
  const { tf, operations } = runtime;
  const { vocabulary, tokens, width, heads } = sizes;
  runtime.activate();
  const variables = shapes().map(([shape, scale], i) => {
    const initial = scale ? tf.randomNormal([...shape], 0, scale, "float32", 7 + i) : tf.zeros([...shape]);
    const variable = tf.variable(initial);
    initial.dispose();
    return variable;
  });
  const parameterCount = variables.reduce((sum, { size }) => sum + size, 0);
  const places = Array.from({ length: exampleCount * tokens }, (_, i) => i);
  const ids = tf.tensor(
    places.map((i) => (i * 37) % vocabulary),
    [exampleCount, tokens],
    "int32",
  );
  const labels = tf.tensor1d(
    places.map((i) => (i * 31 + 7) % vocabulary),
    "int32",
  );

  const linear = (x: Tensor, [kernel, bias]: readonly Tensor[]) => {
    const rows = tf.reshape(x, [exampleCount * tokens, -1]) as Tensor2D;
    return operations.dense(rows, kernel as Tensor2D, bias as Tensor1D, false);
  };
  const norm = (x: Tensor, [gamma, beta]: readonly Tensor[]) =>
    operations.layerNorm(x, tf.add<Tensor1D>(gamma!, 1), beta as Tensor1D, epsilon);

  function loss(): Tensor {
    let next = 0;
    const take = (count: number) => {
      next += count;
      return variables.slice(next - count, next);
    };
    let x = tf.add(operations.embedding(take(1)[0] as Tensor2D, ids), take(1)[0]!);
    const normed = norm(x, take(2));
    const perHead = () => tf.reshape(linear(normed, take(2)), [exampleCount, tokens, width]) as Tensor3D;
    const attended = operations.attention(perHead(), perHead(), perHead(), {
      heads,
      causal: true,
      keyMask: null,
    });
    x = tf.add(x, tf.reshape(linear(attended, take(2)), x.shape));
    const inner = operations.gelu(linear(norm(x, take(2)), take(2)), "erf");
    x = tf.add(x, tf.reshape(linear(inner, take(2)), x.shape));
    return operations.crossEntropy(linear(norm(x, take(2)), take(2)), labels).loss;
  }

  /** Calls with each variable and its part of a flat array. */
  function each(
    flat: Float32Array,
    use: (variable: (typeof variables)[number], part: Float32Array) => void,
  ): void {
    let offset = 0;
    for (const variable of variables) {
      use(variable, flat.subarray(offset, offset + variable.size));
      offset += variable.size;
    }
  }

  return {
    parameterCount,
    async readParameters(into) {
      const parts: { tensor: Tensor; into: Float32Array }[] = [];
      each(into, (tensor, part) => parts.push({ tensor, into: part }));
      await runtime.read(parts);
    },
    writeParameters(from) {
      runtime.activate();
      each(from, (variable, part) => runtime.write(variable, part));
    },
    async gradient(into) {
      runtime.activate();
      const { value, grads } = tf.variableGrads(() => loss() as ReturnType<typeof tf.scalar>, variables);
      const parts: { tensor: Tensor; into: Float32Array }[] = [];
      each(into, (variable, part) => parts.push({ tensor: grads[variable.name]!, into: part }));
      await runtime.read(parts);
      tf.dispose([value, grads]);
      return exampleCount * tokens;
    },
    close: () => tf.dispose([...variables, ids, labels]),
  };
}

/** Shapes of the variables in the order of use, and the spread of their first values; 0 for zeros. */
function shapes(): [readonly number[], number][] {
  const { vocabulary, tokens, width, hidden } = sizes;
  const linear = (from: number, to: number): [readonly number[], number][] => [
    [[from, to], from ** -0.5],
    [[to], 0],
  ];
  // The scale of a norm is stored as its distance from 1.
  const norm: [readonly number[], number][] = [
    [[width], 0],
    [[width], 0],
  ];
  return [
    [[vocabulary, width], 1],
    [[tokens, width], 1],
    ...norm,
    ...[0, 1, 2, 3].flatMap(() => linear(width, width)),
    ...norm,
    ...linear(width, hidden),
    ...linear(hidden, width),
    ...norm,
    ...linear(width, vocabulary),
  ];
}
