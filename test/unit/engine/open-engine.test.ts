import type { Tensor } from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { openCpu } from "../../../agent/engine/cpu.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Operations, Runtime } from "../../../agent/engine/runtime.ts";
import { selfTest, selfTestNumbers } from "../../../agent/engine/self-test.ts";
import reference from "../../../agent/engine/self-test-reference.json" with { type: "json" };
import { openWasm } from "../../../agent/engine/wasm.ts";
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
    const { images, sequences } = await selfTestNumbers(await openCpu());
    expect(relativeError(images, reference.images)).toBeLessThan(1e-6);
    expect(relativeError(sequences, reference.sequences)).toBeLessThan(1e-6);
  });

  it("finds an engine that computes wrong, or not a number", async () => {
    const cpu = await openCpu();
    for (const factor of [1.001, Number.NaN]) {
      const dense: Operations["dense"] = (...of) => cpu.tf.mul(cpu.operations.dense(...of), factor);
      await expect(selfTest(withOperations(cpu, { dense }))).rejects.toThrow("self-test failed");
    }
  });

  describe.each([
    ["cpu", openCpu],
    ["wasm", openWasm],
  ] as const)("on %s", (_name, open) => {
    it.each([
      ["the embedding's table", "embedding/embeddings", { embedding: wrongIn("embedding", 0) }],
      ["the query of attention", "attention/query/", { attention: wrongIn("attention", 0) }],
      ["the key of attention", "attention/key/kernel", { attention: wrongIn("attention", 1) }],
      ["the value of attention", "attention/value/kernel", { attention: wrongIn("attention", 2) }],
      ["layer norm's scale", "norm/gamma", { layerNorm: wrongIn("layerNorm", 1) }],
      ["layer norm's shift", "norm/beta", { layerNorm: wrongIn("layerNorm", 2) }],
    ])("finds a wrong gradient in %s, by name", async (_what, tensor, wrong) => {
      const runtime = await open();
      const faults = Object.entries(wrong).map(([name, fault]) => [name, fault(runtime)] as const);
      const message = `self-test failed: the gradient of ${tensor}`;
      await expect(selfTest(withOperations(runtime, Object.fromEntries(faults)))).rejects.toThrow(message);
    });

    it("finds a wrong gradient that goes on through layer norm, or through GELU", async () => {
      const runtime = await open();
      for (const name of ["layerNorm", "gelu"] as const) {
        const fault = { [name]: wrongIn(name, 0)(runtime) };
        await expect(selfTest(withOperations(runtime, fault))).rejects.toThrow(
          /self-test failed: the gradient/,
        );
      }
    });
  });

  it.each(["gru", "lstm"] as const)("finds a wrong gradient in the kernel of a %s, by name", async (cell) => {
    const wasm = await openWasm();
    const sequences = wasm.operations.sequences!;
    const whole = sequences[cell].bind(sequences) as (...of: never[]) => never;
    const wrong = {
      ...sequences,
      [cell]: (x: never, kernel: never, ...more: never[]) =>
        whole(x, tooLarge(wasm, kernel) as never, ...more),
    };
    const message = `self-test failed: the gradient of ${cell}/recurrent_kernel`;
    await expect(selfTest(withOperations(wasm, { sequences: wrong }))).rejects.toThrow(message);
  });
});

const withOperations = (runtime: Runtime, operations: Partial<Operations>): Runtime => ({
  ...runtime,
  operations: { ...runtime.operations, ...operations },
});

/** The same numbers, with a gradient that is a tenth too large. */
const tooLarge = ({ tf }: Runtime, x: Tensor): Tensor =>
  tf.customGrad((each) => ({
    value: (each as Tensor).clone(),
    gradFunc: (dy: Tensor) => tf.mul(dy, 1.1),
  }))(x);

/** An operation of the runtime whose gradient is wrong in one of its inputs alone. */
const wrongIn =
  (name: "embedding" | "attention" | "layerNorm" | "gelu", at: number) =>
  (runtime: Runtime) =>
  (...of: unknown[]): unknown => {
    const operation = runtime.operations[name] as (...of: unknown[]) => unknown;
    return operation(...of.with(at, tooLarge(runtime, of[at] as Tensor)));
  };
