import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { computedData } from "../../fixtures/tables.ts";
import { tinyData, trainTwoRanks } from "../../fixtures/trainers.ts";
import { Randomness } from "../../simulation/world/randomness.ts";

const optimizer: JobSpec["optimizer"] = {
  ...{ kind: "adam", learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
};
const tokens = (name: string, length: number, cardinality: number) => ({
  ...{ name, shape: [length], kind: "category" as const, cardinality },
});

/** Words of a made-up language, two examples of which are never alike in what they ask for. */
function sequences(length: number, kindCount: number, count: number): number[][] {
  const random = new Randomness(7);
  return Array.from({ length: count }, () => Array.from({ length }, () => random.integer(1, kindCount - 1)));
}

/** Whether a 1 comes before the first 2; the end of a text is padding. */
function orders(): Dataset {
  const texts = sequences(8, 4, 700).map((text, i) =>
    text.map((token, at) => (at < 8 - (i % 4) ? token : 0)),
  );
  const shape = { inputShape: [8], features: [tokens("text", 8, 4)], target: { kind: "binary" as const } };
  const isFirst = (text: readonly number[]) => {
    const [one, two] = [text.indexOf(1), text.indexOf(2)];
    return one >= 0 && (two < 0 || one < two) ? 1 : 0;
  };
  return computedData(shape, (i) => ({ row: texts[i]!, targets: [isFirst(texts[i]!)] }), {
    train: 600,
    test: 100,
  });
}

/** Counting up modulo ten from anywhere. */
function countings(): Dataset {
  const shape = {
    ...{ inputShape: [6], features: [tokens("text", 6, 10)] },
    target: { kind: "tokens" as const, length: 6, classCount: 10 },
  };
  const exampleOf = (i: number) => {
    const row = Array.from({ length: 6 }, (_, at) => (i * 3 + at) % 10);
    return { row, targets: [...row.slice(1), i % 2 === 0 ? (row[5]! + 1) % 10 : -1] };
  };
  return computedData(shape, exampleOf, { train: 200, test: 40 });
}

/** The source backwards: of the written so far, which begins with the sign 6. */
function reversals(): Dataset {
  const sources = sequences(4, 6, 900);
  const shape = {
    ...{ inputShape: [8], features: [tokens("source", 4, 7), tokens("written", 4, 7)] },
    target: { kind: "tokens" as const, length: 4, classCount: 7 },
  };
  const exampleOf = (i: number) => {
    const answer = sources[i]!.toReversed();
    return { row: [...sources[i]!, 6, ...answer.slice(0, 3)], targets: answer };
  };
  return computedData(shape, exampleOf, { train: 800, test: 100 });
}

describe("two ranks train", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: "wasm" });
  });
  afterAll(() => engine.close());

  const trainPair = async (data: Dataset, spec: Partial<JobSpec>) =>
    (await trainTwoRanks({ engine, data, spec })).evaluation;

  test("a residual cnn, whose running averages stay equal to the bit", async () => {
    const { accuracy } = await trainPair(tinyData(120), {
      ...{ model: { architecture: "residual-cnn", filters: [6, 8], blocks: 1 }, optimizer },
      ...{ batchSize: 20, epochs: 4, wire: "int8" },
    });
    expect(accuracy).toBeGreaterThan(0.9);
  });

  test.each([
    ["lstm", false],
    ["gru", false],
    ["gru", true],
  ] as const)(
    "a text classifier (%s, both ways: %s) with padding and dropout",
    async (cell, bidirectional) => {
      const { metrics } = await trainPair(orders(), {
        model: {
          architecture: "recurrent",
          cell,
          bidirectional,
          embeddingWidth: 8,
          units: [16],
          dropout: 0.1,
        },
        ...{ optimizer, batchSize: 50, epochs: 9 },
      });
      expect(metrics.auc).toBeGreaterThan(0.95);
    },
  );

  test("a language model, to a perplexity; what is unknown counts nowhere", async () => {
    const { metrics, accuracy } = await trainPair(countings(), {
      model: { architecture: "transformer-lm", width: 16, heads: 2, layers: 1, dropout: 0 },
      ...{ optimizer, batchSize: 20, epochs: 8 },
    });
    expect(metrics.perplexity).toBeLessThan(1.2);
    expect(accuracy).toBeGreaterThan(0.97);
  });

  test("an encoder and decoder that turns sequences round", async () => {
    const { accuracy } = await trainPair(reversals(), {
      model: { architecture: "encoder-decoder", width: 16, heads: 2, layers: 1, dropout: 0 },
      ...{ optimizer, batchSize: 50, epochs: 20 },
    });
    expect(accuracy).toBeGreaterThan(0.9);
  });
});
