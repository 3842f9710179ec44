import type { Tensor } from "@tensorflow/tfjs";
import type { Activation } from "../models/layers/config.ts";
import type { Runtime } from "./runtime.ts";

export function applyActivation({ tf, operations }: Runtime, activation: Activation, x: Tensor): Tensor {
  switch (activation) {
    case "linear":
      return x;
    case "swish":
      return tf.mul(x, tf.sigmoid(x));
    case "hard_sigmoid":
      return tf.clipByValue(tf.add(tf.mul(x, 0.2), 0.5), 0, 1);
    case "gelu":
      return operations.gelu(x, "erf");
    case "gelu_new":
      return operations.gelu(x, "tanh");
    case "relu":
    case "relu6":
    case "elu":
    case "selu":
    case "sigmoid":
    case "softplus":
    case "softmax":
    case "tanh":
      return tf[activation](x);
  }
}
