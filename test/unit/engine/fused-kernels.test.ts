import { describe, expect, it } from "vitest";
import { kernelBench } from "../../fixtures/kernel-bench.ts";

/** The kernels of whole layers, both builds, by their definitions and within their bounds. */
describe.each(["wide", "relaxed", "simd"] as const)("kernels of whole layers, %s build", async (build) => {
  const { kernels, place, clear, expectGuards } = await kernelBench(build);

  /** Numbers of both signs, the same for the same seed. */
  const wave = (length: number, seed: number) =>
    Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7 + seed));
  const expectClose = (actual: ArrayLike<number>, expected: readonly number[]) =>
    expected.forEach((each, i) => {
      expect(Math.abs(actual[i]! - each)).toBeLessThan(1e-5);
    });

  it.each([1, 2, 3, 4, 5, 13])("normalises rows of width %d, and writes nowhere else", (columns) => {
    clear();
    const rows = 3;
    const [x, gamma, beta] = [
      place(wave(rows * columns, 1)),
      place(wave(columns, 2)),
      place(wave(columns, 3)),
    ];
    const [y, stats] = [place(new Float32Array(rows * columns)), place(new Float32Array(2 * rows))];
    const pointers = [x.pointer, gamma.pointer, beta.pointer] as const;
    kernels.layerNorm(...pointers, 1e-3, rows, columns, y.pointer, stats.pointer);
    const dy = place(wave(rows * columns, 4));
    const outputs = [rows * columns, columns, columns].map((length) => place(new Float32Array(length)));
    const [dx, dgamma, dbeta] = outputs.map(({ pointer }) => pointer) as [number, number, number];
    const saved = [x.pointer, gamma.pointer, stats.pointer, dy.pointer] as const;
    kernels.layerNormGrad(...saved, rows, columns, dx, dgamma, dbeta);
    expectGuards([x, gamma, beta, y, stats, dy, ...outputs]);
    for (let r = 0; r < rows; r++) {
      const row = [...x.view.subarray(r * columns, (r + 1) * columns)];
      const mean = row.reduce((sum, each) => sum + each, 0) / columns;
      const deviation = Math.sqrt(row.reduce((sum, each) => sum + (each - mean) ** 2, 0) / columns + 1e-3);
      const expected = row.map((each, c) => ((each - mean) / deviation) * gamma.view[c]! + beta.view[c]!);
      expectClose(y.view.subarray(r * columns, (r + 1) * columns), expected);
    }
  });

  it.each([1, 3, 6, 8, 17])("normalises %d columns over a batch, and writes nowhere else", (columns) => {
    clear();
    const rows = 300;
    const [x, gamma, dy] = [
      place(wave(rows * columns, 1)),
      place(wave(columns, 2)),
      place(wave(rows * columns, 3)),
    ];
    const outputs = [rows * columns, columns, columns, columns].map((length) =>
      place(new Float32Array(length)),
    );
    const [y, mean, variance, inverse] = outputs.map(({ pointer }) => pointer) as [
      number,
      number,
      number,
      number,
    ];
    kernels.batchNorm(x.pointer, gamma.pointer, 0, 1e-3, rows, columns, y, mean, variance, inverse);
    const gradients = [rows * columns, columns, columns].map((length) => place(new Float32Array(length)));
    const [dx, dgamma, dbeta] = gradients.map(({ pointer }) => pointer) as [number, number, number];
    kernels.batchNormGrad(
      x.pointer,
      gamma.pointer,
      mean,
      inverse,
      dy.pointer,
      rows,
      columns,
      dx,
      dgamma,
      dbeta,
    );
    expectGuards([x, gamma, dy, ...outputs, ...gradients]);
    for (let c = 0; c < columns; c++) {
      const column = [...x.view].filter((_, i) => i % columns === c);
      const centre = column.reduce((sum, each) => sum + each, 0) / rows;
      const spread = column.reduce((sum, each) => sum + (each - centre) ** 2, 0) / rows;
      expectClose([outputs[1]!.view[c]!, outputs[2]!.view[c]!], [centre, spread]);
    }
  });

  it("attends by the definition, hidden keys and the future left out, and writes nowhere else", () => {
    clear();
    const [batch, queries, keys, heads, size] = [2, 3, 5, 2, 3];
    const width = heads * size;
    const [q, k, v] = [
      place(wave(batch * queries * width, 1)),
      ...[2, 3].map((s) => place(wave(batch * keys * width, s))),
    ];
    const mask = place([1, 0, 1, 1, 1, 0, 0, 0, 1, 1]);
    const [probabilities, out] = [batch * heads * queries * keys, batch * queries * width].map((length) =>
      place(new Float32Array(length)),
    );
    const scratch = place(new Float32Array(kernels.gemmScratch()));
    const inputs = [q!.pointer, k!.pointer, v!.pointer, mask.pointer] as const;
    const results = [probabilities!.pointer, out!.pointer, scratch.pointer] as const;
    kernels.attention(...inputs, batch, queries, keys, heads, size, 1, ...results);
    expectGuards([q!, k!, v!, mask, probabilities!, out!, scratch]);
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < queries; i++) {
          const head = (of: Float32Array, row: number) => [
            ...of.subarray(row * width + h * size, row * width + (h + 1) * size),
          ];
          const query = head(q!.view, b * queries + i);
          const weights = Array.from({ length: keys }, (_, j) => {
            if (j > i + keys - queries || mask.view[b * keys + j] === 0) return 0;
            const score = head(k!.view, b * keys + j).reduce((sum, each, d) => sum + each * query[d]!, 0);
            return Math.exp(score / Math.sqrt(size));
          });
          const total = weights.reduce((sum, each) => sum + each, 0) || 1;
          const expected = query.map((_, d) =>
            weights.reduce((sum, weight, j) => sum + (weight / total) * head(v!.view, b * keys + j)[d]!, 0),
          );
          expectClose(head(out!.view, b * queries + i), expected);
        }
      }
    }
  });

  it.each([1, 4, 7])("computes functions of %d elements, and writes nowhere else", (count) => {
    clear();
    const [x, dy, out] = [place(wave(count, 1)), place(wave(count, 2)), place(new Float32Array(count))];
    const tanhGelu = (z: number) =>
      0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)));
    kernels.geluTanh(x.pointer, out.pointer, count);
    expectClose(out.view, [...x.view].map(tanhGelu));
    kernels.geluTanhGrad(x.pointer, dy.pointer, out.pointer, count);
    const slope = (z: number) => (tanhGelu(z + 1e-4) - tanhGelu(z - 1e-4)) / 2e-4;
    expectClose(
      out.view,
      [...x.view].map((z, i) => slope(z) * dy.view[i]!),
    );
    kernels.tanh(x.pointer, out.pointer, count);
    expectClose(out.view, [...x.view].map(Math.tanh));
    // The gradient of GELU by erf is the slope of GELU by erf.
    const [above, below] = [place(x.view.map((z) => z + 1e-2)), place(x.view.map((z) => z - 1e-2))];
    const grad = place(new Float32Array(count));
    kernels.geluGrad(x.pointer, dy.pointer, grad.pointer, count);
    for (const side of [above, below]) kernels.gelu(side.pointer, side.pointer, count);
    grad.view.forEach((each, i) => {
      expect(Math.abs(each - ((above.view[i]! - below.view[i]!) / 2e-2) * dy.view[i]!)).toBeLessThan(1e-3);
    });
    expectGuards([x, dy, out, above, below, grad]);
  });
});
