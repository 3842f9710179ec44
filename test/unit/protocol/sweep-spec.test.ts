import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { rungsOf, type Search, searchSchema, trialsOf } from "../../../protocol/search.ts";
import { sweepSpecSchema, trialSpec } from "../../../protocol/sweep-spec.ts";

const job = { name: "digits", model: { architecture: "mlp" }, data: { source: "mnist" }, epochs: 9 };
const read = (search: object, changes: object = {}) =>
  sweepSpecSchema.safeParse({ ...job, ...changes, search });
const mistakes = (search: object, changes: object = {}) =>
  read(search, changes).error?.issues.map(({ path, message }) => `${path.join(" ")}: ${message}`);
const random = (space: object) => ({ method: "random", trials: 4, space });

describe("a space is checked before anything starts", () => {
  test.each([
    [
      { "optimizer.learning_rate": { values: [1] } },
      /learning_rate: is no key of this job: did you mean optimizer.learningRate\?$/,
    ],
    [{ learningRate: { values: [1] } }, /is no key of this job: did you mean optimizer.learningRate\?$/],
    [{ "optimizer.momentum": { values: [0.9] } }, /optimizer.momentum: is no key of this job$/],
    [{ nonsense: { values: [1] } }, /nonsense: is no key of this job$/],
    [{ batchSize: { min: 8.5, max: 64 } }, /space batchSize: 8.5: /],
    [{ "optimizer.learningRate": { values: [0.1, -1] } }, /space optimizer.learningRate: -1: /],
    [{ batchSize: { min: 64, max: 8 } }, /max must be more than min/],
    [{ "schedule.warmupSteps": { min: 0, max: 9, scale: "log" } }, /on a log scale min must be more than 0/],
    [{ name: { values: ["a"] } }, /is the same for all trials/],
    [{ "__proto__.polluted": { values: [1] } }, /Invalid key/],
    [{}, /name at least one key/],
  ])("%j", (space, expected) => {
    expect(mistakes(random(space))).toEqual([expect.stringMatching(expected)]);
    expect({}).not.toHaveProperty("polluted");
  });

  test("keys that must fit each other are asked of whole trials, and the trial is shown", () => {
    const model = { architecture: "transformer-lm", width: 64, heads: 4 };
    const space = { "model.width": { values: [60, 64] }, "model.heads": { values: [4, 5] } };
    expect(
      mistakes({ method: "grid", space: { ...space, "model.heads": { values: [4] } } }, { model }),
    ).toBeUndefined();
    expect(mistakes({ method: "grid", space }, { model })).toEqual([
      expect.stringMatching(/"model.width":64,"model.heads":5.*width must be a multiple of heads/),
    ]);
  });

  test("a mistake of the job itself is told as in a job file", () => {
    const space = { batchSize: { values: [8] } };
    expect(mistakes(random(space), { topK: { fraction: 0.1 }, wire: "int8" })).toEqual([
      expect.stringMatching(/^topK: /),
    ]);
    expect(mistakes({ ...random(space), method: "halving", minEpochs: 10 })).toEqual([
      "search minEpochs: minEpochs is more than the 9 epochs of the job",
    ]);
  });
});

describe("trials", () => {
  test("of a grid: every combination, ends of a range included", () => {
    const rate = { min: 0.001, max: 0.1, scale: "log", count: 3 };
    const search = {
      method: "grid",
      space: { "optimizer.learningRate": rate, batchSize: { values: [8, 16] } },
    };
    expect(trialsOf(read(search).data!.search)).toEqual(
      [0.001, 0.01, 0.1].flatMap((learningRate) =>
        [8, 16].map((batchSize) => ({ "optimizer.learningRate": learningRate, batchSize })),
      ),
    );
    const large = { batchSize: { min: 1, max: 500, integer: true, count: 200 }, epochs: { values: [1, 2] } };
    expect(mistakes({ method: "grid", space: large })).toEqual([
      "search space: the grid has more than 256 trials",
    ]);
    expect(mistakes({ method: "grid", space: { batchSize: { min: 1, max: 500, integer: true } } })).toEqual([
      "search space batchSize: a grid needs count, or values",
    ]);
  });

  test("have a worker, a name and a seed of the job, and whole objects may be varied", () => {
    const values = [{ kind: "sgd", momentum: 0.9 }, { kind: "adam" }];
    const sweep = read({ method: "grid", space: { optimizer: { values }, clipNorm: { values: [1] } } }).data!;
    const [first] = trialsOf(sweep.search)!;
    expect(trialSpec(sweep, 1, first!)).toMatchObject({
      ...{ name: "digits-trial-1", workers: { min: 1, max: 1, spares: 0 }, seed: 1, clipNorm: 1 },
      optimizer: { kind: "sgd", learningRate: 0.01, momentum: 0.9 },
    });
  });

  const range = { "optimizer.learningRate": { min: 1e-5, max: 0.1, scale: "log" } };
  const searchOf = (seed: number, trials: number, space: object = range): Search =>
    searchSchema.parse({ method: "random", seed, trials, space });

  test("drawn: the same seed draws the same, all different, within their bounds", () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.integer({ min: 1, max: 64 }), (seed, count) => {
        const trials = trialsOf(searchOf(seed, count))!;
        expect(trials).toEqual(trialsOf(searchOf(seed, count)));
        expect(new Set(trials.map((trial) => JSON.stringify(trial))).size).toBe(count);
        for (const trial of trials) {
          const rate = trial["optimizer.learningRate"] as number;
          expect(rate >= 1e-5 && rate <= 0.1).toBe(true);
        }
      }),
    );
  });

  test("drawn on a log scale: each decade gets its share; a small space ends early", () => {
    const trials = trialsOf(searchOf(1, 256))!;
    const decades = Map.groupBy(trials, (trial) =>
      Math.floor(Math.log10(trial["optimizer.learningRate"] as number)),
    );
    for (const decade of [-5, -4, -3, -2]) expect(decades.get(decade)!.length).toBeGreaterThan(40);
    expect(trialsOf(searchOf(1, 9, { batchSize: { values: [8, 16] } }))).toHaveLength(2);
  });
});

test("rungs: one in η goes on with η times the epochs, at least one does, and the last goes to the end", () => {
  const rungs = (reduction: number, minEpochs: number, epochs: number, trials: number) => {
    const search = {
      ...{ method: "halving", reduction, minEpochs, trials },
      space: { seed: { values: [1] } },
    };
    return rungsOf(searchSchema.parse(search), epochs, trials).map((rung) => [rung.epochs, rung.trials]);
  };
  expect(rungs(3, 1, 9, 9)).toEqual([[1, 9], [3, 3], [9, 1]]); // biome-ignore format: a table
  expect(rungs(2, 0.5, 3, 5)).toEqual([[0.5, 5], [1, 2], [2, 1], [3, 1]]); // biome-ignore format: a table
  expect(rungs(3, 9, 9, 4)).toEqual([[9, 4]]);
});
