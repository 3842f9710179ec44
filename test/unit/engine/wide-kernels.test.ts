import fc from "fast-check";
import { expect, it } from "vitest";
import { loadBestKernels } from "../../../agent/engine/kernels/build.ts";
import { kernelFlags } from "../../../agent/engine/kernels/module.ts";
import { kernelBench } from "../../fixtures/kernel-bench.ts";

/**
 * V8 compiles the wide build to registers of twice the width, by a pass that it calls experimental. The build may only be
 * faster: any bit of a product or a convolution is that of the relaxed build.
 */
const benches = [await kernelBench("wide"), await kernelBench("relaxed")] as const;
const wave = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7 + seed));

type Bench = (typeof benches)[number];
function expectSameBits(compute: (bench: Bench) => Float32Array): void {
  const [wide, relaxed] = benches.map((bench) => {
    bench.clear();
    const result = compute(bench);
    return Buffer.from(result.buffer, result.byteOffset, result.byteLength);
  });
  expect(Buffer.compare(wide!, relaxed!)).toBe(0);
}

const length = fc.integer({ min: 1, max: 70 });

it("multiplies to the same bits, in any transposition, with bias, ReLU and a sum to add to", () => {
  const bit = fc.boolean();
  fc.assert(
    fc.property(length, length, length, bit, bit, fc.nat(7), (m, n, k, aT, bT, flags) => {
      expectSameBits(({ kernels, place }) => {
        const [a, b, bias] = [place(wave(m * k, 1)), place(wave(k * n, 2)), place(wave(n, 3))];
        const out = place(wave(m * n, 4));
        const scratch = place(new Float32Array(kernels.gemmScratch())).pointer;
        const left = [a.pointer, aT ? 1 : k, aT ? m : 1] as const;
        const right = [b.pointer, bT ? 1 : n, bT ? k : 1] as const;
        kernels.gemm(m, n, k, ...left, ...right, out.pointer, n, flags, bias.pointer, scratch);
        return out.view;
      });
    }),
    { numRuns: 150 },
  );
});

it("convolves to the same bits, forward and backward", () => {
  const few = fc.integer({ min: 1, max: 9 });
  fc.assert(
    fc.property(few, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 3 }), (c, co, stride) => {
      const [height, width, padding] = [9, 7, 1];
      const out = [Math.ceil(height / stride), Math.ceil(width / stride)] as const;
      const window = [2, height, width, c, 3, 3, ...out, stride, stride, padding, padding, 1, 1] as const;
      const [inputs, filters, outputs] = [2 * height * width * c, 9 * c * co, 2 * out[0] * out[1] * co];
      expectSameBits(({ kernels, place }) => {
        const [x, filter, bias, dy] = [
          place(wave(inputs, 1)),
          place(wave(filters, 2)),
          place(wave(co, 3)),
          place(wave(outputs, 4)),
        ];
        const results = place(new Float32Array(outputs + filters + co + inputs));
        const y = results.pointer;
        const dfilter = y + 4 * outputs;
        const dbias = dfilter + 4 * filters;
        const dx = dbias + 4 * co;
        const scratch = place(new Float32Array(kernels.convScratch(3, 3, c, co))).pointer;
        const flags = kernelFlags.bias | kernelFlags.relu;
        kernels.conv2d(x.pointer, filter.pointer, ...window, co, flags, bias.pointer, y, scratch);
        kernels.conv2dFilterGrad(x.pointer, dy.pointer, y, ...window, co, dfilter, dbias, scratch);
        kernels.conv2dInputGrad(dy.pointer, y, filter.pointer, ...window, co, dx, scratch);
        return results.view;
      });
    }),
    { numRuns: 60 },
  );
});

it("takes a build that computes", async () => {
  const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (size: object) => object } })
    .WebAssembly;
  const { build, kernels } = await loadBestKernels(new Memory({ initial: 1 }));
  expect(["wide", "relaxed"]).toContain(build); // Node 22 and later have fused multiply-add
  expect(kernels.gemmScratch()).toBeGreaterThan(0);
});
