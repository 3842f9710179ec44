import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { BatchResult, Engine, EvaluationResult, TrainableModel } from "../../../agent/engine/port.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openRank, runAll, tinyData } from "../../fixtures/trainers.ts";
import type { WasmRankData, WasmRankRequest } from "../../fixtures/wasm-rank.ts";

/**
 * One ring of unlike machines: one rank with fused multiply-add, one without. Their gradients differ in the last bits; what
 * comes after the all-reduce must not, or the ranks drift apart.
 */
const data = tinyData(37);
const models: readonly [string, ModelSpec][] = [
  ["cnn", { architecture: "cnn", filters: [5], kernelSize: 3, hidden: [9] }],
  ["mlp", { architecture: "mlp", hidden: [33, 17] }],
];

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

/** The model of a thread with that build, in the place of `model`, which knows the layout and holds the parameters. */
function inThread(model: TrainableModel, data: WasmRankData): TrainableModel {
  const worker = new Worker(new URL("../../fixtures/wasm-rank.ts", import.meta.url), { workerData: data });
  onTestFinished(async () => {
    await worker.terminate();
  });
  const ask = async (request: WasmRankRequest) => {
    const answer = once(worker, "message");
    worker.postMessage(request);
    return (await answer)[0];
  };
  return {
    ...model,
    writeParameters(from) {
      model.writeParameters(from);
      worker.postMessage({ method: "write", parameters: from } satisfies WasmRankRequest);
    },
    async gradient(batch, gradient) {
      const answer = (await ask({ method: "gradient", batch })) as {
        result: BatchResult;
        gradient: Float32Array;
      };
      gradient.set(answer.gradient);
      return answer.result;
    },
    async evaluate(batch) {
      return ((await ask({ method: "evaluate", batch })) as { result: EvaluationResult }).result;
    },
  };
}

describe("a ring of ranks with and without fused multiply-add", () => {
  test.each(models)("%s: gradients differ in their bits, parameters in none", async (_, modelSpec) => {
    const spec = exampleSpec({ model: modelSpec, batchSize: 8, epochs: 6 });
    const options = { ...data.shape, seed: spec.seed };
    const gradients: Uint8Array[] = [];
    const wrap = (build: WasmRankData["build"]) => (model: TrainableModel) =>
      inThread(model, { build, spec: modelSpec, options });
    const ranks = await Promise.all(
      (["relaxed", "simd"] as const).map((build) =>
        openRank({ engine, data, spec: { model: modelSpec, batchSize: 8, epochs: 6 }, wrap: wrap(build) }),
      ),
    );
    onTestFinished(() => {
      for (const { model } of ranks) model.close();
    });
    // The same examples and parameters on both, before the first step.
    const inputs = Float32Array.from({ length: 8 * 16 }, (_, i) => Math.sin(i));
    const batch = { exampleCount: 8, inputs, targets: new Float32Array(8).fill(1) };
    for (const build of ["relaxed", "simd"] as const) {
      const remote = inThread(ranks[0]!.model, { build, spec: modelSpec, options });
      const gradient = new Float32Array(remote.description.parameterCount);
      await remote.gradient(batch, gradient);
      gradients.push(new Uint8Array(gradient.buffer));
    }
    expect(Buffer.compare(gradients[0]!, gradients[1]!)).not.toBe(0);

    expect(await runAll(ranks)).toEqual(["done", "done"]);
    expect(ranks[0]!.hashes.size).toBe(30);
    expect(ranks[0]!.hashes).toEqual(ranks[1]!.hashes);
    const losses = ranks[0]!.reports.map(({ loss }) => loss);
    expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]!);
  });
});
