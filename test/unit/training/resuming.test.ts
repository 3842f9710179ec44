import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import { openRank, type Rank, runAll, tinyData } from "../../fixtures/trainers.ts";

/** 5 steps an epoch, 15 in all. */
const data = tinyData(37);
const spec = { batchSize: 8, epochs: 3 };

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

async function openWorld(): Promise<Rank[]> {
  const ranks = await Promise.all([0, 1, 2].map(() => openRank({ engine, data, spec })));
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

test.each([1, 4, 5, 9, 10, 14])(
  "new processes go on from a checkpoint of step %i to the same bits",
  async (step) => {
    const undisturbed = await openWorld();
    let checkpoint: Promise<Uint8Array> | undefined;
    undisturbed[0]!.onStep = (done) => {
      if (done === step) checkpoint = undisturbed[0]!.trainer.encodeState();
    };
    await runAll(undisturbed);
    const restarted = await openWorld();
    for (const { trainer } of restarted) await trainer.restoreState(await checkpoint!);
    await runAll(restarted);
    for (const { hashes } of restarted)
      for (const [at, hash] of hashes) expect([at, hash]).toEqual([at, undisturbed[0]!.hashes.get(at)]);
  },
);
