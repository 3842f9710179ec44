import { describe, expect, test } from "vitest";
import {
  type AgentNeeds,
  type AgentOffer,
  keyOf,
  meets,
  needsOf,
  offerOf,
} from "../../../coordinator/decide/needs.ts";
import { needsText, whyNone } from "../../../coordinator/decide/needs-text.ts";
import { exampleHello, exampleSpec } from "../../fixtures/messages.ts";
import { gpuOffer, plainOffer } from "../../fixtures/queue-facts.ts";

const needs = (changes: Partial<AgentNeeds> = {}): AgentNeeds => ({ scripts: false, ...changes });

describe("what a job asks for", () => {
  test("is what it says, and the engine that it names unless every agent has it", () => {
    expect(needsOf(exampleSpec())).toEqual({ scripts: false });
    expect(needsOf(exampleSpec({ engine: "wasm" }))).toEqual({ scripts: false });
    expect(needsOf(exampleSpec({ engine: "torch" }))).toEqual({ scripts: true });
    expect(needsOf(exampleSpec({ engine: "webgpu", needs: { cores: 4 } }))).toEqual({
      ...{ scripts: false, engine: "webgpu", cores: 4 },
    });
  });

  test("has one key, in whatever order labels stand", () => {
    const [one, other] = [
      { room: "a", rack: "3" },
      { rack: "3", room: "a" },
    ].map((labels) => keyOf(needsOf(exampleSpec({ needs: { labels } }))));
    expect(one).toBe(other);
  });
});

describe("what an agent offers", () => {
  const capabilities = exampleHello().capabilities;

  test("memory that a training may take, and its largest GPU", () => {
    const gpus = [6e9, 24e9, null].map((memoryBytes, i) => ({ name: `GPU ${i}`, memoryBytes }));
    expect(offerOf({ ...capabilities, gpus })).toMatchObject({ memoryBytes: 0.5e9, gpuMemoryBytes: 24e9 });
  });

  test("engines that compute on a GPU: its own where it says so, others always", () => {
    const told = { ...capabilities, engine: "tensorflow", engines: ["tensorflow", "webgpu"] };
    expect(offerOf(told)).toMatchObject({ engines: ["tensorflow", "webgpu"], gpuEngines: ["webgpu"] });
    expect(offerOf({ ...told, gpu: "CUDA" }).gpuEngines).toEqual(["tensorflow", "webgpu"]);
  });
});

describe("an agent is enough", () => {
  test.each<[string, Partial<AgentNeeds>, AgentOffer, boolean]>([
    ["for a job that asks for nothing", {}, plainOffer, true],
    ["with as much GPU memory", { gpuMemory: 8e9 }, gpuOffer(8e9), true],
    ["not with a byte less", { gpuMemory: 8e9 }, gpuOffer(8e9 - 1), false],
    [
      "not when its engine leaves the GPU alone",
      { gpuMemory: 8e9 },
      { ...plainOffer, gpuMemoryBytes: 9e9 },
      false,
    ],
    [
      "for a script, whatever its engine uses",
      { scripts: true, gpuMemory: 8e9 },
      { ...plainOffer, scripts: true, gpuMemoryBytes: 9e9 },
      true,
    ],
    ["with the engine that is named", { engine: "webgpu" }, gpuOffer(8e9), true],
    ["not without it", { engine: "tensorflow" }, gpuOffer(8e9), false],
    [
      "not when the named engine is not on the GPU",
      { engine: "tensorflow", gpuMemory: 8e9 },
      gpuOffer(8e9, { engines: ["tensorflow"], gpuEngines: [] }),
      false,
    ],
    ["with as much memory", { memory: 8e9 }, plainOffer, true],
    ["not with less", { memory: 8e9 + 1 }, plainOffer, false],
    ["not with fewer cores", { cores: 5 }, plainOffer, false],
    [
      "with the label, among others",
      { labels: { room: "a" } },
      { ...plainOffer, labels: { room: "a", rack: "3" } },
      true,
    ],
    ["not with another value", { labels: { room: "a" } }, { ...plainOffer, labels: { room: "b" } }, false],
    ["not by what every object has", { labels: { constructor: "a" } }, plainOffer, false],
  ])("%s", (_what, asked, offer, enough) => expect(meets(offer, needs(asked))).toBe(enough));
});

test("needs in words", () => {
  expect(needsText(needs(), 1)).toBe("");
  expect(needsText(needs({ gpuMemory: 8e9 }), 1)).toBe(" with 8 GB GPU memory");
  expect(needsText(needs({ engine: "webgpu", gpuMemory: 8e9, labels: { room: "a" } }), 2)).toBe(
    " with engine webgpu, 8 GB GPU memory and label room=a",
  );
  expect(needsText(needs({ scripts: true, cores: 1 }), 2)).toBe(
    " with 1 core that allow scripts (`ringfold agent --allow-torch`)",
  );
});

describe("where no agent ever could", () => {
  const lab = [plainOffer, gpuOffer(24e9, { labels: { room: "a" } })];
  const idleGpu = { ...plainOffer, gpuMemoryBytes: 24e9 };

  test.each<[Partial<AgentNeeds>, readonly AgentOffer[], string | undefined]>([
    [{}, lab, undefined],
    [{ gpuMemory: 80e9 }, [], undefined], // nobody is known yet
    [
      { gpuMemory: 80e9 },
      lab,
      "no agent has 80 GB GPU memory, the most is 24 GB; ask for less, or add a machine that has it",
    ],
    [
      { gpuMemory: 8e9 },
      [plainOffer],
      "no agent tells of any GPU memory; `ringfold doctor` on its machine says why",
    ],
    [
      { gpuMemory: 8e9 },
      [idleGpu],
      "no agent computes on its GPU of 8 GB or more; docs/engines.md says what that takes",
    ],
    [
      { memory: 64e9 },
      lab,
      "no agent has 64 GB memory, the most is 8 GB; ask for less, or add a machine that has it",
    ],
    [{ cores: 64 }, lab, "no agent has 64 cores, the most is 4; ask for less, or add a machine that has it"],
    [{ engine: "tensorflow" }, lab, "no agent has engine tensorflow; docs/engines.md says what it takes"],
    [
      { engine: "webgpu", memory: 64e9 },
      lab,
      "no agent with engine webgpu has 64 GB memory, the most is 8 GB; ask for less, or add a machine that has it",
    ],
    [{ labels: { room: "b" } }, lab, "no agent has label room=b; `ringfold agent --label room=b` gives it"],
    [
      { scripts: true, gpuMemory: 8e9 },
      lab,
      "no agent allows scripts; their owners do with `ringfold agent --allow-torch`",
    ],
    [
      { scripts: true, gpuMemory: 8e9 },
      [gpuOffer(24e9), { ...plainOffer, scripts: true }],
      "no agent that allows scripts tells of any GPU memory; `ringfold doctor` on its machine says why",
    ],
    [
      { gpuMemory: 8e9, labels: { room: "b" } },
      [...lab, { ...plainOffer, labels: { room: "b" } }],
      "no agent has 8 GB GPU memory and label room=b at once; ask for less, or add a machine that has it all",
    ],
  ])("%j: it says which need, and what to do", (asked, offers, reason) =>
    expect(whyNone(needs(asked), offers)).toBe(reason),
  );
});
