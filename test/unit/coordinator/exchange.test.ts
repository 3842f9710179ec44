import { expect, test } from "vitest";
import { exchangeCost } from "../../../coordinator/decide/exchange.ts";
import { type LinkCost, ringAllReduceMs, transferMs } from "../../../protocol/link-model.ts";

const everyStep = { kind: "every-step" } as const;
const averaging = { kind: "averaging", everySteps: 32 } as const;
const of = { parameterCount: 256_000, worldSize: 4 };

test.each([
  [{ wire: "f32" }, 1_024_000],
  [{ wire: "bf16" }, 512_000],
  [{ wire: "int8" }, 260_000],
] as const)("%j costs %i bytes a step", (how, bytes) => {
  expect(exchangeCost({ ...how, synchronization: everyStep }, of)).toEqual({ bytes, perStep: 1 });
});

test("local steps share the cost of the exchange that follows them", () => {
  expect(exchangeCost({ wire: "f32", synchronization: averaging }, of).perStep).toBe(1 / 32);
});

test("top-k costs what its W-1 rounds over the slowest hop cost", () => {
  const hop: LinkCost = { latencyMs: 3, bytesPerSecond: 1e6 };
  const spec = { wire: "f32", topK: { fraction: 0.01 }, synchronization: everyStep } as const;
  const { bytes, perStep } = exchangeCost(spec, of);
  const entriesBytes = 8 * 2_560;
  expect(perStep * ringAllReduceMs([hop, hop, hop, hop], bytes)).toBeCloseTo(
    3 * transferMs(hop, entriesBytes),
  );
});
