import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { serveBench } from "./served-bench.ts";

vi.setConfig({ testTimeout: 60_000 });

let served: Awaited<ReturnType<typeof serveBench>>;
beforeEach(async () => {
  served = await serveBench();
});
afterEach(() => served.close());

test("a rule is set, shown with its reasons, listed and removed", async () => {
  const { bench, ringfold } = served;
  const worker = await bench.worker(1);
  for (let i = 0; i < 3; i++) {
    const { id } = await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
    await trainThrough(worker, id);
  }
  await bench.coordinator.moveAlias("digits", "champion", { version: 1 });
  expect((await ringfold("models", "retention")).stdout).toBe("no rules: all versions stay\n");
  const set = await ringfold("models", "retention", "set", "digits", "--keep-last", "1");
  expect(set.stdout.split("\n").slice(1)).toEqual([
    expect.stringMatching(/^digits +1 +- +2 +1$/),
    "digits@1 stays: champion points to it",
    "",
  ]);
  expect((await ringfold("models", "retention", "digits")).stdout).toBe(set.stdout);
  expect(bench.coordinator.versions().map(({ version }) => version)).toEqual([1, 3]);
  expect((await ringfold("models", "retention", "remove", "digits")).exitCode).toBe(0);
  expect((await ringfold("models", "retention", "digits")).exitCode).toBe(66);
});
