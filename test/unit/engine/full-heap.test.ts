import type { TensorInfo } from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { outOfMemory } from "../../../agent/engine/out-of-memory.ts";
import { openWasm } from "../../../agent/engine/wasm.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

/** In f32. None of this memory is touched, so the machine need not have it. */
const gigabyte = 1e9 / 4;

describe("a full heap of the wasm engine", async () => {
  const { tf } = await openWasm();
  const backend = tf.backend() as unknown as {
    makeOutput(shape: number[], dtype: "float32"): TensorInfo;
    disposeData(dataId: object): void;
  };
  const refusal = expect.objectContaining({
    code: "MODEL_TOO_LARGE",
    message: expect.stringContaining("a heap of 4.3 GB"),
  });

  it("is told by name, whatever is asked for: no tensor lies beyond the memory, and the engine goes on", () => {
    const kept = [
      backend.makeOutput([1.0 * gigabyte], "float32"),
      backend.makeOutput([1.1 * gigabyte], "float32"),
    ];
    // 2.2 GB more is where 32 bits overflow; 4.3 GB is what no number of them holds.
    for (const gigabytes of [2.2, 2.3, 3, 4.19, 4.2949, 4.3, 6]) {
      expect(() => backend.makeOutput([gigabytes * gigabyte], "float32")).toThrow(refusal);
    }
    expect([...tf.tensor1d([1, 2, 3]).dataSync()]).toEqual([1, 2, 3]);
    for (const { dataId } of kept) backend.disposeData(dataId);
    const again = backend.makeOutput([2 * gigabyte], "float32");
    backend.disposeData(again.dataId);
  });
});

describe("errors of other engines", () => {
  it("that are about memory become one of the job, with what was said", () => {
    const tensorflow = new Error(
      "Invalid TF_Status: 8\nMessage: OOM when allocating tensor with shape[32000,4096]",
    );
    const array = new RangeError("Array buffer allocation failed");
    const length = caught(() => new Float32Array(2 ** 53 - 1));
    for (const cause of [tensorflow, array, length]) {
      expect(outOfMemory(cause)).toMatchObject({ code: "MODEL_TOO_LARGE", cause });
    }
    expect(outOfMemory(array)!.message).toBe(
      "the engine has run out of memory: Array buffer allocation failed",
    );
  });

  it("that are about anything else stay what they are", () => {
    expect(outOfMemory(new Error("Argument 'x' must be a Tensor"))).toBeUndefined();
    expect(outOfMemory(new RingfoldError("RING_BROKEN", "array buffer allocation failed"))).toBeUndefined();
    expect(outOfMemory("out of memory")).toBeUndefined();
  });
});

function caught(call: () => unknown): unknown {
  try {
    call();
  } catch (cause) {
    return cause;
  }
  throw new Error("nothing was thrown");
}
