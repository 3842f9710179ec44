import { describe, expect, it } from "vitest";
import { openCpu } from "../../../agent/engine/cpu.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Runtime } from "../../../agent/engine/runtime.ts";
import { selfTest, selfTestNumbers } from "../../../agent/engine/self-test.ts";
import reference from "../../../agent/engine/self-test-reference.json" with { type: "json" };
import { relativeError } from "../../contract/engines.ts";

describe("openEngine", () => {
  it("takes wasm or better by itself, and lists every candidate with a reason", async () => {
    const engine = await openEngine({ prefer: "auto" });
    expect(engine.name).not.toBe("cpu");
    expect(engine.candidates.map(({ name }) => name)).toEqual(["tensorflow", "webgpu", "wasm", "cpu"]);
    expect(engine.candidates.every(({ reason }) => reason.length > 0)).toBe(true);
    engine.close();
  });

  it("takes only the engine that was asked for", async () => {
    const engine = await openEngine({ prefer: "cpu" });
    expect(engine.name).toBe("cpu");
    expect(engine.candidates.map(({ name }) => name)).toEqual(["cpu"]);
    engine.close();
  });

  it("logs its choice", async () => {
    const lines: string[] = [];
    const write = (_fields: object, message: string) => void lines.push(message);
    const engine = await openEngine({
      prefer: "cpu",
      log: { debug: write, info: write, warn: write, error: write },
    });
    expect(lines).toEqual([engine.reason]);
    engine.close();
  });

  it("opens twice at a time, on one installation", async () => {
    const engines = await Promise.all([openEngine({ prefer: "wasm" }), openEngine({ prefer: "wasm" })]);
    expect(engines.map(({ name }) => name)).toEqual(["wasm", "wasm"]);
    for (const engine of engines) engine.close();
  });

  it("closes what it opened", async () => {
    const engine = await openEngine({ prefer: "wasm" });
    const before = engine.tensorCount();
    const spec = { architecture: "mlp" as const, hidden: [4] };
    engine.openModel(spec, { inputShape: [3], target: { kind: "class", classCount: 2 }, seed: 1 });
    const model = engine.openModel(spec, {
      inputShape: [3],
      target: { kind: "class", classCount: 2 },
      seed: 1,
    });
    expect(engine.tensorCount()).toBeGreaterThan(before);
    model.close();
    engine.close();
    engine.close();
    expect(engine.tensorCount()).toBe(before);
  });
});

describe("self-test", () => {
  it("holds numbers of the cpu engine", async () => {
    const cpu = await openCpu();
    expect(relativeError(await selfTestNumbers(cpu), reference)).toBeLessThan(1e-6);
  });

  it("finds an engine that computes wrong, or not a number", async () => {
    const cpu = await openCpu();
    for (const factor of [1.001, Number.NaN]) {
      const wrong: Runtime = {
        ...cpu,
        operations: {
          ...cpu.operations,
          dense: (x, kernel, bias, relu) => cpu.tf.mul(cpu.operations.dense(x, kernel, bias, relu), factor),
        },
      };
      await expect(selfTest(wrong)).rejects.toThrow("self-test failed");
    }
  });
});
