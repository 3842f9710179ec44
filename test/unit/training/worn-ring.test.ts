import { expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import { Ring } from "../../../agent/ring/ring.ts";
import { openRank, tinyData } from "../../fixtures/trainers.ts";
import { memoryRing } from "../../simulation/memory-links.ts";

const never = new AbortController().signal;

test("when links have carried what they may, all ranks pause after the same step, and a new ring goes on", async () => {
  const engine = await openEngine({ prefer: "cpu" });
  const worldSize = 3;
  const spec = { batchSize: 8, epochs: 2 };
  const ranks = await Promise.all(
    Array.from({ length: worldSize }, () => openRank({ engine, data: tinyData(37), spec })),
  );
  // A step sends 4/3 of 107 elements: the third one goes beyond.
  const runOnNewRing = () =>
    Promise.all(
      memoryRing(worldSize).map((links, rank) =>
        ranks[rank]!.trainer.run(new Ring({ rank, worldSize, links, linkBytesMax: 1_300 }), never),
      ),
    );
  expect(await runOnNewRing()).toEqual(["paused", "paused", "paused"]);
  const steps = ranks.map(({ trainer }) => trainer.state.step);
  expect(steps).toEqual([steps[0], steps[0], steps[0]]);
  expect(steps[0]).toBeGreaterThan(1);
  while ((await runOnNewRing())[0] === "paused");
  expect(ranks.map(({ trainer }) => trainer.state.step)).toEqual([10, 10, 10]);
  for (const { model } of ranks) model.close();
  engine.close();
});
