import { expect, test } from "vitest";
import { createLoadMeter, machineCapabilities } from "../../../agent/membership/machine.ts";
import { offerOf } from "../../../coordinator/decide/needs.ts";
import { capabilitiesSchema } from "../../../protocol/messages/membership.ts";
import { exampleHello } from "../../fixtures/messages.ts";

test("what a machine says of itself fits the message", () => {
  const engine = { name: "cpu", gpu: null, reason: "asked for", gflops: 1, candidates: [] } as const;
  const facts = { engines: ["cpu"], gpus: [], labels: { room: "a" }, scripts: true, memoryLimitBytes: 1e6 };
  const told = machineCapabilities(engine, facts);
  expect(capabilitiesSchema.parse(told)).toEqual(told);
  expect(told).toMatchObject({ engine: "cpu", gpu: null, usableMemoryBytes: 1e6, labels: { room: "a" } });
  expect(told.memoryBytes).toBeGreaterThan(1e6);
});

test("an agent of an earlier release is understood: it has what it says and nothing else", () => {
  const { usableMemoryBytes: _, gpus: __, engines: ___, labels: ____, ...told } = exampleHello().capabilities;
  expect(offerOf(capabilitiesSchema.parse(told))).toEqual({
    ...{ scripts: false, engines: ["cpu"], gpuEngines: [], usesGpu: false, gpuMemoryBytes: 0 },
    ...{ memoryBytes: 1e9, cores: 2, labels: {} },
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
