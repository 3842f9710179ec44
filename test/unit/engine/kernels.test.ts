import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kernelFlags } from "../../../agent/engine/kernels/module.ts";
import { kernelBench } from "../../fixtures/kernel-bench.ts";

const value = fc.float({ min: -4, max: 4, noNaN: true });
const values = (length: number) => fc.array(value, { minLength: length, maxLength: length });

describe.each(["wide", "relaxed", "simd"] as const)("kernels, %s build", async (build) => {
  const { kernels, place, clear, expectGuards } = await kernelBench(build);

  it("multiplies any shapes, adds the bias, applies ReLU, and writes nowhere else", () => {
    const length = fc.integer({ min: 1, max: 30 });
    const shapes = fc
      .tuple(length, length, length, fc.boolean(), fc.boolean())
      .chain(([m, n, k, bias, relu]) =>
        fc.record({
          m: fc.constant(m),
          n: fc.constant(n),
          k: fc.constant(k),
          bias: fc.constant(bias),
          relu: fc.constant(relu),
          a: values(m * k),
          b: values(k * n),
          c: values(n),
        }),
      );
    fc.assert(
      fc.property(shapes, ({ m, n, k, bias, relu, a, b, c }) => {
        clear();
        const [A, B, C] = [place(a), place(b), place(c)];
        const out = place(new Float32Array(m * n));
        const scratch = place(new Float32Array(kernels.gemmScratch()));
        const flags = (bias ? kernelFlags.bias : 0) | (relu ? kernelFlags.relu : 0);
        kernels.gemm(
          m,
          n,
          k,
          A.pointer,
          k,
          1,
          B.pointer,
          n,
          1,
          out.pointer,
          n,
          flags,
          C.pointer,
          scratch.pointer,
        );
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = bias ? c[j]! : 0;
            for (let l = 0; l < k; l++) sum += a[i * k + l]! * b[l * n + j]!;
            expect(Math.abs(out.view[i * n + j]! - (relu ? Math.max(0, sum) : sum))).toBeLessThan(1e-3);
          }
        }
        expectGuards([A, B, C, out, scratch]);
      }),
      { numRuns: 60 },
    );
  });

  it("sums over blocks longer than one panel", () => {
    clear();
    const [m, n, k] = [101, 530, 600];
    const [A, B] = [place(new Float32Array(m * k).fill(0.5)), place(new Float32Array(k * n).fill(2))];
    const out = place(new Float32Array(m * n));
    const scratch = place(new Float32Array(kernels.gemmScratch()));
    kernels.gemm(m, n, k, A.pointer, k, 1, B.pointer, n, 1, out.pointer, n, 0, 0, scratch.pointer);
    expect(out.view.every((sum) => sum === k)).toBe(true);
  });

  it("has the exponential of the library within 2 ulp, from underflow to overflow", () => {
    clear();
    const inputs = Float32Array.from({ length: 2_003 }, (_, i) => (i - 1_001) / 10);
    const [x, out] = [place(inputs), place(new Float32Array(inputs.length))];
    kernels.exp(x.pointer, out.pointer, inputs.length);
    inputs.forEach((input, i) => {
      const expected = Math.fround(Math.exp(input));
      if (expected === Number.POSITIVE_INFINITY) expect(out.view[i]).toBeGreaterThan(3e38);
      // Denormal results have fewer bits to be right in.
      else expect(Math.abs(out.view[i]! - expected)).toBeLessThanOrEqual(Math.max(2.4e-7 * expected, 3e-45));
    });
    expectGuards([x, out]);
  });

  it("has cross-entropy, hits and gradient of the definition, and takes a wrong label for nothing", () => {
    const rows = fc
      .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 13 }))
      .chain(([count, columns]) =>
        fc.record({
          columns: fc.constant(columns),
          logits: fc.array(fc.float({ min: -80, max: 80, noNaN: true }), {
            minLength: count * columns,
            maxLength: count * columns,
          }),
          labels: fc.array(fc.integer({ min: -1, max: columns }), { minLength: count, maxLength: count }),
        }),
      );
    fc.assert(
      fc.property(rows, ({ columns, logits, labels }) => {
        clear();
        const [x, y] = [place(logits), place(labels, true)];
        const [loss, correct, grad] = [place([0]), place([0]), place(new Float32Array(logits.length))];
        const results = [loss.pointer, correct.pointer, grad.pointer] as const;
        kernels.softmaxCrossEntropy(x.pointer, y.pointer, labels.length, columns, ...results);
        let [lossSum, hits] = [0, 0];
        labels.forEach((label, row) => {
          const logit = logits.slice(row * columns, (row + 1) * columns);
          const isKnown = label >= 0 && label < columns;
          const top = Math.max(...logit);
          const total = logit.reduce((sum, z) => sum + Math.exp(z - top), 0);
          if (isKnown) lossSum += Math.log(total) - (logit[label]! - top);
          if (isKnown && logit.indexOf(top) === label) hits++;
          logit.forEach((z, column) => {
            const expected = isKnown ? Math.exp(z - top) / total - (column === label ? 1 : 0) : 0;
            expect(Math.abs(grad.view[row * columns + column]! - expected)).toBeLessThan(1e-6);
          });
        });
        expect(Math.abs(loss.view[0]! - lossSum)).toBeLessThan(1e-5 * Math.max(1, lossSum));
        expect(correct.view[0]).toBe(hits);
        expectGuards([x, y, loss, correct, grad]);
      }),
      { numRuns: 60 },
    );
  });

  it("drops ids outside a table, both ways", () => {
    clear();
    const table = place([1, 2, 3, 4, 5, 6]);
    const ids = place([2, -1, 3, 0, 2_000_000_000], true);
    const rows = place(new Float32Array(10).fill(9));
    kernels.gatherRows(table.pointer, 3, ids.pointer, 5, 2, rows.pointer);
    expect([...rows.view]).toEqual([5, 6, 0, 0, 0, 0, 1, 2, 0, 0]);
    const sums = place(new Float32Array(6).fill(9));
    kernels.scatterAddRows(rows.pointer, ids.pointer, 5, 2, sums.pointer, 3);
    expect([...sums.view]).toEqual([1, 2, 0, 0, 5, 6]);
    expectGuards([table, ids, rows, sums]);
  });

  it("sums rows, columns and the ReLU gradient of odd widths", () => {
    clear();
    const [rows, columns] = [300, 21];
    const x = place(Float32Array.from({ length: rows * columns }, (_, i) => (i % 7) - 3));
    const dy = place(new Float32Array(rows * columns).fill(2));
    const [byRow, byColumn] = [place(new Float32Array(rows)), place(new Float32Array(columns))];
    const [dx, db] = [place(new Float32Array(rows * columns)), place(new Float32Array(columns))];
    kernels.rowSum(x.pointer, rows, columns, byRow.pointer);
    kernels.columnSum(x.pointer, rows, columns, byColumn.pointer);
    kernels.reluBiasGrad(x.pointer, dy.pointer, dx.pointer, rows, columns, db.pointer);
    for (let r = 0; r < rows; r++) {
      const row = x.view.subarray(r * columns, (r + 1) * columns);
      expect(byRow.view[r]).toBe(row.reduce((sum, each) => sum + each, 0));
    }
    for (let c = 0; c < columns; c++) {
      const column = x.view.filter((_, i) => i % columns === c);
      expect(byColumn.view[c]).toBe(column.reduce((sum, each) => sum + each, 0));
      expect(db.view[c]).toBe(2 * column.filter((each) => each > 0).length);
    }
    expect([...dx.view]).toEqual([...x.view].map((each) => (each > 0 ? 2 : 0)));
    expectGuards([x, dy, byRow, byColumn, dx, db]);
  });
});
