// Entry of the training kernels that work on the heap of tfjs-backend-wasm.
//
// The module imports that heap and owns none of it: no static data, no allocation, no stack in memory. Every pointer,
// the scratch area too, comes from the caller, who also answers for the sizes. Sizes are in elements, tensors are
// float32 and NHWC unless a name says otherwise.
//
// Built twice from this source, with relaxed SIMD (fused multiply-add) and with plain SIMD128:
// `npm run build:kernels`.

export { erf, gelu, geluGrad, geluTanh, geluTanhGrad, tanh } from "./activation";
export { attention, attentionGrad } from "./attention";
export { conv2d, conv2dFilterGrad, conv2dInputGrad, convScratch } from "./convolution";
export { depthwiseFilterGrad, depthwiseInputGrad } from "./depthwise";
export { exp } from "./exponential";
export { gatherRows, scatterAddRows } from "./gather";
export { gemm, gemmBatch, gemmScratch } from "./gemm";
export { batchNorm, batchNormGrad, layerNorm, layerNormGrad } from "./normalization";
export { maxPoolGrad } from "./pooling";
export { gru, gruGrad, lstm, lstmGrad, recurrentScratch } from "./recurrent";
export { columnSum, reluBiasGrad, rowSum } from "./reductions";
export { softmax, softmaxCrossEntropy } from "./softmax";
export { tile } from "./tile";
