import { describe, expect, test } from "vitest";
import { exchangeCost, wayOf } from "../../../coordinator/decide/exchange.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import {
  doublingAllReduceMs,
  type LinkCost,
  ringAllReduceMs,
  transferMs,
} from "../../../protocol/link-model.ts";
import { windowMax } from "../../../protocol/segment-flow.ts";

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

describe("the window of a generation", () => {
  const spec = jobSpecSchema.parse({ name: "j", model: { architecture: "mlp" }, data: { source: "mnist" } });
  const way = (link: LinkCost, changes: Partial<typeof spec> = {}) =>
    wayOf({ ...spec, ...changes }, { ids: ["a", "b", "c"], links: () => link, parameterCount: 4_000_000 });

  test("is the transport's own where a round trip is short", () => {
    const lan = { latencyMs: 0.3, bytesPerSecond: 100e6 };
    expect(way(lan).window).toBe(limits.segmentWindow);
    expect(way(lan, { transport: "plaintext" }).window).toBe(limits.segmentWindowPlain);
  });

  test("holds what leaves while the first segment is under way, and never more than the slots", () => {
    const { window } = way({ latencyMs: 10, bytesPerSecond: 1e6 });
    expect(window! * limits.segmentBytes).toBeGreaterThan(0.01 * limits.linkBytesPerSecondSupposed);
    expect(window! * limits.segmentBytes).toBeLessThan(0.01 * limits.linkBytesPerSecondSupposed + 2e5);
    const far = { latencyMs: 300, bytesPerSecond: 1e9 };
    expect(way(far).window).toBe(windowMax(limits.segmentBytes));
    const plain = way(far, { transport: "plaintext" });
    expect(plain.window).toBe(windowMax(limits.segmentBytesPlain));
  });

  test("is that of the slowest hop, and unknown where a link is", () => {
    const links = (from: string, to: string) =>
      ({ latencyMs: from === "a" && to === "b" ? 20 : 0.1, bytesPerSecond: 1e8 }) satisfies LinkCost;
    const { window } = wayOf(
      { ...spec, ringOrder: "as-joined" },
      { ids: ["a", "b"], links, parameterCount: 9 },
    );
    expect(window).toBeGreaterThan(150);
    expect(wayOf(spec, { ids: ["a", "b"], links: undefined, parameterCount: 9 }).window).toBeUndefined();
  });

  test("bounds what is predicted: beyond it a round waits for the latency again", () => {
    const link = { latencyMs: 20, bytesPerSecond: 1e9 };
    expect(ringAllReduceMs([link, link], 8e6, 1e6)).toBe(2 * 4 * 20);
    expect(ringAllReduceMs([link, link], 8e6, 4e6)).toBe(2 * (20 + 4));
    expect(doublingAllReduceMs(() => link, { worldSize: 2, bytes: 4e6, flightBytes: 1e6 })).toBe(4 * 20);
  });
});
