import { expect, test } from "vitest";
import { type EngineFacts, namedEngines } from "../../../agent/engine/probe.ts";

const all = ["tensorflow", "webgpu", "wasm", "cpu"] as const;
type Name = (typeof all)[number];

/** What a probe says that has taken `name`, out of those from `names` that it came to. */
const found = (name: Name, gpu: string | null, names: readonly Name[] = all): EngineFacts => ({
  ...{ name, gpu, reason: "", gflops: 1 },
  candidates: names.map((each) => ({ name: each, usable: each === name, reason: "" })),
});

test.each<[string, EngineFacts, EngineFacts | undefined, readonly string[], readonly string[]]>([
  [
    "the first is taken, and the second works too",
    found("tensorflow", null),
    found("webgpu", "GPU"),
    ["tensorflow", "webgpu"],
    ["webgpu"],
  ],
  [
    "the second has no GPU but software",
    found("tensorflow", null),
    found("webgpu", null),
    ["tensorflow"],
    ["webgpu"],
  ],
  ["the second does not open", found("tensorflow", "GPU"), undefined, ["tensorflow"], ["webgpu"]],
  ["those that come first were tried", found("wasm", null), undefined, ["wasm"], []],
  ["its owner has said which one", found("cpu", null, ["cpu"]), undefined, ["cpu"], []],
])("engines that jobs may name: %s", async (_what, chosen, other, names, asked) => {
  const probed: string[] = [];
  const engines = await namedEngines(chosen, async (name) => {
    probed.push(name);
    if (!other) throw new Error("not installed");
    return other;
  });
  expect(engines).toEqual(names);
  expect(probed).toEqual(asked);
});
