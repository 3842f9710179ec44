import type { Layer } from "./kinds.ts";

/**
 * Padding of sequences. An embedding with `mask_zero` knows which places are padding, and layers pass that on with what they
 * put out, as in Keras: a mask is named by the embeddings that it comes from.
 */

/** The mask of what a layer puts out. @param at its place among the layers */
export function outputMask(layer: Layer, at: number): readonly number[] {
  switch (layer.kind) {
    case "Embedding":
      return layer.config.mask_zero ? [at] : [];
    case "LSTM":
    case "GRU":
      return layer.config.return_sequences ? layer.inputMasks[0]! : [];
    case "Bidirectional":
      return layer.config.layer.config.return_sequences ? layer.inputMasks[0]! : [];
    case "MultiHeadAttention":
      return layer.inputMasks[0]!;
    case "Dense":
    case "Activation":
    case "ReLU":
    case "LeakyReLU":
    case "ELU":
    case "Softmax":
    case "LayerNormalization":
    case "BatchNormalization":
    case "Dropout":
    case "PositionEmbedding":
    case "Add":
    case "Subtract":
    case "Multiply":
    case "Average":
    case "Maximum":
    case "Minimum":
    case "Concatenate":
      return [...new Set(layer.inputMasks.flat())].sort((a, b) => a - b);
    default:
      return [];
  }
}

/** The mask that a layer looks at. */
export function usedMask(layer: Layer): readonly number[] {
  switch (layer.kind) {
    case "LSTM":
    case "GRU":
    case "Bidirectional":
    case "GlobalAveragePooling1D":
      return layer.inputMasks[0]!;
    case "MultiHeadAttention":
      return layer.inputMasks[1]!;
    default:
      return [];
  }
}
