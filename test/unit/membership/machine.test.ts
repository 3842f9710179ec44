import { expect, test } from "vitest";
import { createLoadMeter, machineCapabilities } from "../../../agent/membership/machine.ts";
import { capabilitiesSchema } from "../../../protocol/messages/membership.ts";

test("what a machine says of itself fits the message", () => {
  const engine = { name: "cpu", gpu: null, reason: "asked for", gflops: 1, candidates: [] } as const;
  expect(capabilitiesSchema.parse(machineCapabilities(engine, true))).toMatchObject({
    engine: "cpu",
    gpu: null,
    scripts: true,
  });
});

test("load is never negative, nor not a number, however short the interval", () => {
  const measure = createLoadMeter();
  for (let i = 0; i < 3; i++) {
    const { cpu, residentBytes } = measure();
    expect(cpu).toBeGreaterThanOrEqual(0);
    expect(residentBytes).toBeGreaterThan(0);
  }
});
