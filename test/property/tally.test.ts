import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { askedOf } from "../../agent/training/metrics/asked.ts";
import { figuresOf } from "../../agent/training/metrics/figures.ts";
import { mergeTallies, Tally } from "../../agent/training/metrics/tally.ts";
import type { Target } from "../../protocol/data-schema.ts";
import type { AskedMetric } from "../../protocol/metric.ts";

/** Metrics of counted shares against the formulas of books over all examples, however they are shared out among ranks. */

const empty = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };
interface Seen {
  readonly targets: Float32Array;
  readonly predicted?: Float32Array;
  readonly labelRanks?: Float32Array;
  readonly scores?: Float32Array;
}

/** As ranks with these many examples each would count them, in batches of 3. */
function figures(names: readonly AskedMetric[], target: Target, seen: Seen, shares: readonly number[]) {
  const asked = askedOf({ metrics: [...names] }, target, "at the end");
  let from = 0;
  const parts = [...shares, seen.targets.length].map((count) => {
    const tally = new Tally(asked.plan!);
    const end = Math.min(seen.targets.length, from + count);
    for (; from < end; from = Math.min(end, from + 3)) {
      const cut = (all: Float32Array | undefined) => all?.slice(from, Math.min(end, from + 3));
      const { targets, ...said } = seen;
      const result = Object.fromEntries(Object.entries(said).map(([name, all]) => [name, cut(all)!]));
      tally.add({ ...empty, ...result }, cut(targets)!);
    }
    return tally.sums;
  });
  return figuresOf(asked, mergeTallies(asked.plan!, parts), undefined);
}

const share = (part: number, whole: number) => (whole === 0 ? 0 : part / whole);
const mean = (all: readonly number[]) => all.reduce((sum, each) => sum + each, 0) / all.length;
const shares = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 4 });
const f32 = fc.float({ min: -50, max: 50, noNaN: true });

describe("what is counted of classes", () => {
  const names = [
    "macro-precision",
    "macro-recall",
    "macro-f1",
    "per-class",
    "confusion-matrix",
    "top-2-accuracy",
    "top-3-accuracy",
  ] as const;

  it("gives what the formulas give, on one rank and on several", () => {
    const example = fc.record({
      label: fc.integer({ min: -1, max: 4 }),
      answer: fc.integer({ min: 0, max: 4 }),
      rank: fc.integer({ min: 0, max: 4 }),
    });
    fc.assert(
      fc.property(fc.array(example, { minLength: 1, maxLength: 40 }), shares, (all, cut) => {
        const seen = {
          targets: Float32Array.from(all, ({ label }) => label),
          predicted: Float32Array.from(all, ({ answer }) => answer),
          labelRanks: Float32Array.from(all, ({ rank }) => rank),
        };
        const told = figures(names, { kind: "class", classCount: 5 }, seen, cut);
        const known = all.filter(({ label }) => label >= 0);
        if (known.length === 0) return void expect(told.metrics).toEqual({});
        const count = (label: number, answer: number) =>
          known.filter((each) => each.label === label && each.answer === answer).length;
        const confusion = [0, 1, 2, 3, 4].map((label) =>
          [0, 1, 2, 3, 4].map((answer) => count(label, answer)),
        );
        const classes = [0, 1, 2, 3, 4].map((c) => {
          const support = known.filter(({ label }) => label === c).length;
          const answers = known.filter(({ answer }) => answer === c).length;
          const [precision, recall] = [share(confusion[c]![c]!, answers), share(confusion[c]![c]!, support)];
          return {
            support,
            answers,
            precision,
            recall,
            f1: share(2 * precision * recall, precision + recall),
          };
        });
        expect(told.confusion).toEqual(confusion);
        told.classes!.forEach((row, c) => {
          expect(row.support).toBe(classes[c]!.support);
          for (const key of ["precision", "recall", "f1"] as const)
            expect(row[key]).toBeCloseTo(classes[c]![key], 12);
        });
        const present = classes.filter(({ support, answers }) => support + answers > 0);
        for (const key of ["precision", "recall", "f1"] as const)
          expect(told.metrics[`macro-${key}`]).toBeCloseTo(mean(present.map((each) => each[key])), 12);
        for (const k of [2, 3])
          expect(told.metrics[`top-${k}-accuracy`]).toBe(
            known.filter(({ rank }) => rank < k).length / known.length,
          );
      }),
    );
  });

  it("gives the same means of many classes, without the matrix", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 90 })), {
          minLength: 1,
          maxLength: 60,
        }),
        (all) => {
          const seen = {
            targets: Float32Array.from(all, ([label]) => label),
            predicted: Float32Array.from(all, ([, answer]) => answer),
          };
          const macro = ["macro-precision", "macro-recall", "macro-f1"] as const;
          const [few, many] = [91, 5_000].map(
            (classCount) => figures(macro, { kind: "class", classCount }, seen, [7]).metrics,
          );
          expect(many).toEqual(few);
        },
      ),
    );
  });

  it("of 0 and 1 goes by the score, and tells of 1 alone", () => {
    const seen = {
      targets: Float32Array.of(1, 0, -1, 1, 0, 1),
      scores: Float32Array.of(2, 0.1, 9, -1, -3, 0.5),
    };
    const { metrics, confusion } = figures(
      ["precision", "recall", "f1", "confusion-matrix"],
      { kind: "binary" },
      seen,
      [2, 0, 1],
    );
    expect(metrics).toEqual({ precision: 2 / 3, recall: 2 / 3, f1: 2 / 3 });
    expect(confusion).toEqual([[1, 1], [1, 2]]); // biome-ignore format: a class each
  });
});

describe("what is counted of numbers", () => {
  it("gives mean absolute error and the share explained, far from zero too", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(f32, f32), { minLength: 1, maxLength: 40 }),
        fc.constantFrom(0, 1e5),
        shares,
        (all, offset, cut) => {
          const targets = Float32Array.from(all, ([target]) => target + offset);
          const scores = Float32Array.from(all, ([, said]) => said + offset);
          const { metrics } = figures(["mae", "r2"], { kind: "number" }, { targets, scores }, cut);
          const errors = [...targets].map((target, i) => scores[i]! - target);
          expect(metrics.mae).toBeCloseTo(mean(errors.map(Math.abs)), 9);
          const middle = mean([...targets]);
          const deviations = [...targets].reduce((sum, target) => sum + (target - middle) ** 2, 0);
          const r2 = 1 - errors.reduce((sum, error) => sum + error ** 2, 0) / deviations;
          // Nearer to each other than this, what is expected here has lost its own digits.
          if (deviations < 1e-6 + 1e-11 * offset ** 2) return;
          expect(Math.abs(metrics.r2! - r2)).toBeLessThan(1e-9 * Math.max(1, Math.abs(r2)));
        },
      ),
    );
  });

  it("leaves out a share of nothing", () => {
    const seen = { targets: Float32Array.of(2, 2, 2), scores: Float32Array.of(1, 2, 3) };
    expect(figures(["mae", "r2"], { kind: "number" }, seen, [1]).metrics).toEqual({ mae: 2 / 3 });
  });
});
