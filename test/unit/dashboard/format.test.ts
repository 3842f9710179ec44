import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  clipMiddle,
  formatAge,
  formatBytes,
  formatDuration,
  formatLoss,
  formatPercent,
  formatRate,
} from "../../../dashboard/format.ts";

describe("numbers for people", () => {
  it.each([
    [0, "0 ms"],
    [840, "840 ms"],
    [999.6, "1.0 s"],
    [4_160, "4.2 s"],
    [9_960, "10 s"],
    [59_600, "1 min 00 s"],
    [200_000, "3 min 20 s"],
    [18_240_000, "5 h 04 min"],
    [183_600_000, "2 d 03 h"],
    [Number.POSITIVE_INFINITY, "–"],
    [null, "–"],
  ])("duration %s ms is %s", (durationMs, text) => expect(formatDuration(durationMs)).toBe(text));

  it.each([
    [-5_000, "now"],
    [1_900, "now"],
    [2_000, "2 s ago"],
    [99_000, "99 s ago"],
    [100_000, "1 min ago"],
    [7_200_000, "2 h ago"],
    [172_800_000, "2 d ago"],
  ])("age %s ms is %s", (ageMs, text) => expect(formatAge(ageMs)).toBe(text));

  it.each([
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_024, "1.0 KiB"],
    [1_048_575, "1.0 MiB"],
    [1_686_568, "1.6 MiB"],
    [150 * 2 ** 30, "150 GiB"],
  ])("%s bytes are %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [null, "–"],
    [0, "0.0000"],
    [0.00042, "4.20e-4"],
    [0.0421, "0.0421"],
    [2.4026, "2.403"],
    [12.345, "12.35"],
    [123_456, "123,456"],
  ])("loss %s is %s", (loss, text) => expect(formatLoss(loss)).toBe(text));

  it("shares and rates show what matters", () => {
    expect(formatPercent(0.98712)).toBe("98.71%");
    expect(formatPercent(1.3, 0)).toBe("130%");
    expect(formatRate(46.83)).toBe("46.8");
    expect(formatRate(4_213.7)).toBe("4,214");
    expect(formatRate(null)).toBe("–");
  });

  it("clipped names keep both ends and never exceed their place", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), fc.integer({ min: 3, max: 40 }), (name, lengthMax) => {
        const clipped = clipMiddle(name, lengthMax);
        expect(clipped.length).toBeLessThanOrEqual(lengthMax);
        if (name.length <= lengthMax) expect(clipped).toBe(name);
        else expect(name.startsWith(clipped[0]!) && name.endsWith(clipped.at(-1)!)).toBe(true);
      }),
    );
  });
});
