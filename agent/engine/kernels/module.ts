/** A WebAssembly.Memory; only handed on. */
export type Memory = object;

type Pointer = number;
/** N, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL: sizes in elements, strides, padding above and left. */
export type WindowGeometry = readonly [
  batch: number,
  inHeight: number,
  inWidth: number,
  inChannels: number,
  filterHeight: number,
  filterWidth: number,
  outHeight: number,
  outWidth: number,
  strideHeight: number,
  strideWidth: number,
  padTop: number,
  padLeft: number,
];

/** Sizes in elements; `size` is the width of a head. */
type AttentionGeometry = readonly [batch: number, queries: number, keys: number, heads: number, size: number];

type SequenceGeometry = readonly [batch: number, places: number, units: number, backwards: 0 | 1];

/** Distance of a filter's taps, in pixels. */
export type Dilations = readonly [dilationHeight: number, dilationWidth: number];

/** What assembly/index.ts exports. Pointers are byte offsets into the heap, sizes are in elements. */
export interface KernelExports {
  gemmScratch(): number;
  convScratch(filterHeight: number, filterWidth: number, channels: number, outChannels: number): number;
  gemm(
    m: number,
    n: number,
    k: number,
    a: Pointer,
    rowStrideA: number,
    columnStrideA: number,
    b: Pointer,
    rowStrideB: number,
    columnStrideB: number,
    c: Pointer,
    ldc: number,
    flags: number,
    bias: Pointer,
    scratch: Pointer,
  ): void;
  gemmBatch(
    batch: number,
    stepA: number,
    stepB: number,
    stepC: number,
    m: number,
    n: number,
    k: number,
    a: Pointer,
    rowStrideA: number,
    columnStrideA: number,
    b: Pointer,
    rowStrideB: number,
    columnStrideB: number,
    c: Pointer,
    scratch: Pointer,
  ): void;
  conv2d(
    ...call: [
      x: Pointer,
      filter: Pointer,
      ...WindowGeometry,
      ...Dilations,
      outChannels: number,
      flags: number,
      bias: Pointer,
      y: Pointer,
      scratch: Pointer,
    ]
  ): void;
  conv2dFilterGrad(
    ...call: [
      x: Pointer,
      dy: Pointer,
      y: Pointer,
      ...WindowGeometry,
      ...Dilations,
      outChannels: number,
      dfilter: Pointer,
      dbias: Pointer,
      scratch: Pointer,
    ]
  ): void;
  conv2dInputGrad(
    ...call: [
      dy: Pointer,
      y: Pointer,
      filter: Pointer,
      ...WindowGeometry,
      ...Dilations,
      outChannels: number,
      dx: Pointer,
      scratch: Pointer,
    ]
  ): void;
  depthwiseFilterGrad(
    ...call: [x: Pointer, dy: Pointer, ...WindowGeometry, multiplier: number, dfilter: Pointer]
  ): void;
  depthwiseInputGrad(
    ...call: [dy: Pointer, filter: Pointer, ...WindowGeometry, multiplier: number, dx: Pointer]
  ): void;
  maxPoolGrad(...call: [x: Pointer, dy: Pointer, ...WindowGeometry, dx: Pointer]): void;
  columnSum(x: Pointer, rows: number, columns: number, out: Pointer): void;
  rowSum(x: Pointer, rows: number, columns: number, out: Pointer): void;
  reluBiasGrad(y: Pointer, dy: Pointer, dx: Pointer, rows: number, columns: number, db: Pointer): void;
  exp(x: Pointer, out: Pointer, n: number): void;
  erf(x: Pointer, out: Pointer, n: number): void;
  tanh(x: Pointer, out: Pointer, n: number): void;
  gelu(x: Pointer, out: Pointer, n: number): void;
  geluGrad(x: Pointer, dy: Pointer, dx: Pointer, n: number): void;
  geluTanh(x: Pointer, out: Pointer, n: number): void;
  geluTanhGrad(x: Pointer, dy: Pointer, dx: Pointer, n: number): void;
  layerNorm(
    x: Pointer,
    gamma: Pointer,
    beta: Pointer,
    epsilon: number,
    rows: number,
    columns: number,
    y: Pointer,
    stats: Pointer,
  ): void;
  layerNormGrad(
    x: Pointer,
    gamma: Pointer,
    stats: Pointer,
    dy: Pointer,
    rows: number,
    columns: number,
    dx: Pointer,
    dgamma: Pointer,
    dbeta: Pointer,
  ): void;
  batchNorm(
    x: Pointer,
    gamma: Pointer,
    beta: Pointer,
    epsilon: number,
    rows: number,
    columns: number,
    y: Pointer,
    mean: Pointer,
    variance: Pointer,
    inverse: Pointer,
  ): void;
  batchNormGrad(
    x: Pointer,
    gamma: Pointer,
    mean: Pointer,
    inverse: Pointer,
    dy: Pointer,
    rows: number,
    columns: number,
    dx: Pointer,
    dgamma: Pointer,
    dbeta: Pointer,
  ): void;
  attention(
    q: Pointer,
    k: Pointer,
    v: Pointer,
    mask: Pointer,
    ...call: [...AttentionGeometry, causal: 0 | 1, probabilities: Pointer, out: Pointer, scratch: Pointer]
  ): void;
  attentionGrad(
    q: Pointer,
    k: Pointer,
    v: Pointer,
    probabilities: Pointer,
    dout: Pointer,
    ...call: [...AttentionGeometry, dq: Pointer, dk: Pointer, dv: Pointer, dscore: Pointer, scratch: Pointer]
  ): void;
  recurrentScratch(batch: number, units: number): number;
  lstm(
    ...call: [
      ...[x: Pointer, kernel: Pointer, mask: Pointer, ...SequenceGeometry],
      ...[kept: Pointer, out: Pointer, scratch: Pointer],
    ]
  ): void;
  lstmGrad(
    ...call: [
      ...[kernel: Pointer, mask: Pointer, kept: Pointer, out: Pointer, dy: Pointer, ...SequenceGeometry],
      ...[dx: Pointer, dkernel: Pointer, scratch: Pointer],
    ]
  ): void;
  gru(
    ...call: [
      ...[x: Pointer, kernel: Pointer, bias: Pointer, mask: Pointer, ...SequenceGeometry, resetAfter: 0 | 1],
      ...[kept: Pointer, out: Pointer, scratch: Pointer],
    ]
  ): void;
  gruGrad(
    ...call: [
      ...[kernel: Pointer, mask: Pointer, kept: Pointer, out: Pointer, dy: Pointer, ...SequenceGeometry],
      ...[resetAfter: 0 | 1, dx: Pointer, dkernel: Pointer, dbias: Pointer, scratch: Pointer],
    ]
  ): void;
  softmax(x: Pointer, out: Pointer, rows: number, columns: number): void;
  softmaxCrossEntropy(
    logits: Pointer,
    labels: Pointer,
    rows: number,
    columns: number,
    loss: Pointer,
    correct: Pointer,
    grad: Pointer,
  ): void;
  gatherRows(
    table: Pointer,
    tableRows: number,
    ids: Pointer,
    count: number,
    width: number,
    out: Pointer,
  ): void;
  scatterAddRows(
    x: Pointer,
    ids: Pointer,
    count: number,
    width: number,
    out: Pointer,
    segments: number,
  ): void;
}

/** Flags of gemm and conv2d, as in assembly/vector.ts: what happens to a result on its way to memory. */
export const kernelFlags = { relu: 2, bias: 4 } as const;
