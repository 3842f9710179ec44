import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import { directions } from "../models/layers/recurrent.ts";
import { applyActivation } from "./activation.ts";
import type { LayerWeights } from "./layer-run.ts";
import type { Runtime } from "./runtime.ts";

type LstmLayer = Pick<Extract<Layer, { kind: "LSTM" }>, "kind" | "config">;
type GruLayer = Pick<Extract<Layer, { kind: "GRU" }>, "kind" | "config">;
type RecurrentLayer = LstmLayer | GruLayer;

/** One place of a sequence: from its share of the input product and the state to the next state, of which the first goes out. */
type Cell = (x: Tensor2D, state: readonly Tensor2D[]) => Tensor2D[];

/**
 * @param x [batch, places, width]
 * @param mask f32 [batch, places], 1 where the state goes on, or null
 * @returns [batch, places, units], or [batch, units] of the last place
 * Cost: one product with the input for all places, then one with the state a place.
 */
export function recurrent(
  runtime: Runtime,
  layer: RecurrentLayer,
  weights: LayerWeights,
  x: Tensor3D,
  mask: Tensor2D | null,
): Tensor {
  const { tf, operations } = runtime;
  const [batch, places, width] = x.shape;
  const { units, go_backwards, return_sequences } = layer.config;
  const kernel = weights.kernel as Tensor2D;
  const rows = operations.dense(tf.reshape(x, [-1, width]), kernel, inputBias(layer, weights), false);
  const projected = tf.reshape(rows, [batch, places, kernel.shape[1]]) as Tensor3D;
  const whole = wholeSequence(runtime, layer, weights, projected, mask);
  if (whole)
    return return_sequences ? whole : tf.reshape(tf.slice(whole, [0, places - 1, 0]), [batch, units]);
  // TF.js has no gradient of an unstack to one.
  const apart = (x: Tensor) => (places === 1 ? [tf.squeeze(x, [1])] : tf.unstack(x, 1)) as Tensor2D[];
  const steps = apart(projected);
  const keeps = mask ? apart(tf.expandDims(mask, 2)) : null;
  const cell = layer.kind === "LSTM" ? lstmCell(runtime, layer, weights) : gruCell(runtime, layer, weights);
  const stateCount = layer.kind === "LSTM" ? 2 : 1;
  let state: Tensor2D[] = Array.from({ length: stateCount }, () => tf.zeros([batch, units]));
  const outputs: Tensor2D[] = [];
  for (let i = 0; i < places; i++) {
    const place = go_backwards ? places - 1 - i : i;
    const next = cell(steps[place]!, state);
    const before = state;
    const keep = keeps?.[place];
    // next where the mask is 1, as it was where it is 0.
    state = keep ? next.map((each, s) => tf.add(before[s]!, tf.mul(keep, tf.sub(each, before[s]!)))) : next;
    outputs.push(state[0]!);
  }
  return return_sequences ? tf.stack(outputs, 1) : outputs.at(-1)!;
}

/** All states at once, where the engine has the layer whole. */
function wholeSequence(
  { operations: { sequences } }: Runtime,
  layer: RecurrentLayer,
  weights: LayerWeights,
  projected: Tensor3D,
  mask: Tensor2D | null,
): Tensor3D | undefined {
  const { activation, recurrent_activation, go_backwards: goBackwards } = layer.config;
  if (!sequences || activation !== "tanh" || recurrent_activation !== "sigmoid") return undefined;
  const kernel = weights.recurrent_kernel as Tensor2D;
  if (layer.kind === "LSTM") return sequences.lstm(projected, kernel, { goBackwards, mask });
  const { reset_after: resetAfter } = layer.config;
  const bias = stateBiasOf(layer, weights);
  return sequences.gru(projected, kernel, { goBackwards, mask, resetAfter, bias });
}

/** @returns as `recurrent`, of twice the width where both ways are laid side by side */
export function bidirectional(
  runtime: Runtime,
  { config }: Extract<Layer, { kind: "Bidirectional" }>,
  weights: LayerWeights,
  x: Tensor3D,
  mask: Tensor2D | null,
): Tensor {
  const { tf } = runtime;
  const [forward, backward] = directions.map((direction) => {
    const own = Object.entries(weights).flatMap(([name, weight]) =>
      name.startsWith(`${direction}/`) ? [[name.slice(direction.length + 1), weight] as const] : [],
    );
    const isBackward = direction === "backward";
    const y = recurrent(runtime, directed(config.layer, isBackward), Object.fromEntries(own), x, mask);
    // What goes backwards puts its places out in the order in which it comes to them.
    return isBackward && config.layer.config.return_sequences ? tf.reverse(y, 1) : y;
  }) as [Tensor, Tensor];
  switch (config.merge_mode) {
    case "concat":
      return tf.concat([forward, backward], -1);
    case "sum":
      return tf.add(forward, backward);
    case "ave":
      return tf.mul(tf.add(forward, backward), 0.5);
    case "mul":
      return tf.mul(forward, backward);
  }
}

/** The layer in its own direction, or in the other one. */
function directed(
  { class_name, config }: Extract<Layer, { kind: "Bidirectional" }>["config"]["layer"],
  isOther: boolean,
): RecurrentLayer {
  const go_backwards = config.go_backwards !== isOther;
  return class_name === "LSTM"
    ? { kind: class_name, config: { ...config, go_backwards } }
    : { kind: class_name, config: { ...config, go_backwards } };
}

/** The bias that goes with the input; of a GRU with `reset_after` the other one goes with the state. */
function inputBias(layer: RecurrentLayer, { bias }: LayerWeights): Tensor1D | null {
  if (!bias) return null;
  return layer.kind === "GRU" && layer.config.reset_after ? row(bias, 0) : (bias as Tensor1D);
}
const stateBiasOf = ({ config }: Pick<GruLayer, "config">, { bias }: LayerWeights): Tensor1D | null =>
  bias && config.reset_after ? row(bias, 1) : null;
const row = (bias: Tensor, index: number): Tensor1D => bias.slice([index, 0], [1, -1]).reshape([-1]);

/** Source: Hochreiter & Schmidhuber, 1997; gates in Keras' order: input, forget, candidate, output. */
function lstmCell(runtime: Runtime, { config }: LstmLayer, weights: LayerWeights): Cell {
  const { tf, operations } = runtime;
  const kernel = weights.recurrent_kernel as Tensor2D;
  const gate = (z: Tensor) => applyActivation(runtime, config.recurrent_activation, z);
  return (x, [h, c]) => {
    const z = tf.add<Tensor2D>(x, operations.dense(h!, kernel, null, false));
    const [i, f, candidate, o] = tf.split(z, 4, 1);
    const fresh = tf.mul(gate(i!), applyActivation(runtime, config.activation, candidate!));
    const state = tf.add<Tensor2D>(tf.mul(gate(f!), c!), fresh);
    return [tf.mul<Tensor2D>(gate(o!), applyActivation(runtime, config.activation, state)), state];
  };
}

/** Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; gates: update, reset, candidate. */
function gruCell(runtime: Runtime, { config }: GruLayer, weights: LayerWeights): Cell {
  const { tf, operations } = runtime;
  const { units, reset_after } = config;
  const kernel = weights.recurrent_kernel as Tensor2D;
  const gate = (z: Tensor) => applyActivation(runtime, config.recurrent_activation, z);
  const candidateOf = (z: Tensor) => applyActivation(runtime, config.activation, z);
  const stateBias = stateBiasOf({ config }, weights);
  const gateKernel = reset_after ? kernel : (tf.slice(kernel, [0, 0], [units, 2 * units]) as Tensor2D);
  const ownKernel = reset_after ? null : (tf.slice(kernel, [0, 2 * units], [units, units]) as Tensor2D);
  return (x, [h]) => {
    const [xUpdate, xReset, xOwn] = tf.split(x, 3, 1);
    const [hUpdate, hReset, hOwn] = tf.split(
      operations.dense(h!, gateKernel, stateBias, false),
      reset_after ? 3 : 2,
      1,
    );
    const reset = gate(tf.add(xReset!, hReset!));
    const remembered = ownKernel
      ? operations.dense(tf.mul<Tensor2D>(reset, h!), ownKernel, null, false)
      : tf.mul(reset, hOwn!);
    const fresh = candidateOf(tf.add(xOwn!, remembered));
    const update = gate(tf.add(xUpdate!, hUpdate!));
    return [tf.add<Tensor2D>(fresh, tf.mul(update, tf.sub(h!, fresh)))];
  };
}
