import { expect, test } from "vitest";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { digestOf, examplePlan } from "../fixtures/messages.ts";
import { Ledger } from "./checks/ledger.ts";
import { World } from "./world/world.ts";

/** The planted bugs of stages.test.ts never mix the stages of two histories; this one does. */
const jobId = "job-1";
const peers = ["first", "last"];

/** Two stages of one rank each; hashes by stage. */
const planOf = (generation: number, step: number, hashes: readonly string[]): GenerationPlan => ({
  ...examplePlan,
  ...{ jobId, generation, start: { step, hash: hashes[0]! } },
  ranks: peers.map((peerId, rank) => ({ ...examplePlan.ranks[0]!, rank, peerId, heals: true })),
  stages: hashes.map((hash) => ({ hash, checkpoint: null })),
});

function historyOf(start: readonly [string, string]): string | undefined {
  const world = new World({ seed: 1, keepsLines: false, tolerates: undefined });
  const ledger = new Ledger(world);
  const run = (generation: number, from: number, steps: readonly (readonly [string, string])[]) => {
    ledger.sawPlan(planOf(generation, from, steps[0]!));
    for (const [i, hashes] of steps.entries())
      for (const [stage, peerId] of peers.entries()) {
        const at = { jobId, generation, peerId, stage };
        const point = { step: from + i, hash: hashes[stage]!, whole: hashes[stage]! };
        if (i === 0) ledger.started(at, point);
        else {
          const examples = [2 * (point.step - 1), 2 * point.step - 1];
          for (const each of peers) ledger.contributed({ ...at, peerId: each, step: point.step }, examples);
          ledger.committed(at, point);
        }
      }
  };
  const pair = (first: string, last: string) => [digestOf(first), digestOf(last)] as const;
  run(1, 0, [pair("0", "1"), pair("2", "3"), pair("4", "5")]);
  run(2, 1, [pair("2", "3"), pair("6", "7")]);
  run(3, 2, [pair(...start)]);
  const end = { step: 2, hash: digestOf("f") };
  ledger.audit({ jobId, end, generation: 3, exampleCount: 4, stepsPerEpoch: 2 });
  return world.violation?.message;
}

test("stages that come from the same generations are one model", () => {
  expect(historyOf(["6", "7"])).toBeUndefined();
  expect(historyOf(["4", "5"])).toBeUndefined();
});

test("a stage of a history that was given up beside one of that which took its place is found", () => {
  expect(historyOf(["4", "7"])).toMatch(
    /^stages belong together: they come from g1 from step 0 and g2 from step 1/,
  );
});
