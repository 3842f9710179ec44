import { describe, expect, test } from "vitest";
import { queueMutations } from "./queue/mutations.ts";
import { describeQueueStory, runQueueStory } from "./queue/queue-story.ts";

/** As cluster.test.ts, of several jobs that share six to eight machines: priorities, gangs, quotas, and what fails meanwhile. */
const { RINGFOLD_SIM_SEEDS } = process.env;
/** Stops early on a slow machine, but not before the least number. */
const seeds = { least: 15, most: Number(RINGFOLD_SIM_SEEDS ?? 150) };
const timeBoxMs = RINGFOLD_SIM_SEEDS === undefined ? 10_000 : Number.POSITIVE_INFINITY;
/** A planted bug that is not found within so many seeds counts as not found. */
const mutationSeedsMax = 60;

test("gangs begin whole, on agents of their own and within quotas, and each job comes to its end", {
  timeout: 3_600_000,
}, async () => {
  const startedMs = performance.now();
  let reclaimed = 0;
  for (let seed = 1; seed <= seeds.most; seed++) {
    if (seed > seeds.least && performance.now() - startedMs > timeBoxMs) break;
    const outcome = await runQueueStory({ seed });
    reclaimed += outcome.reclaimed;
    expect.soft(outcome.violation, describeQueueStory(outcome)).toBeUndefined();
  }
  expect(reclaimed).toBeGreaterThan(0);
});

test("a seed replays to the last event", { timeout: 60_000 }, async () => {
  const first = await runQueueStory({ seed: 7 });
  const second = await runQueueStory({ seed: 7, keepsLines: true });
  expect(second).toMatchObject({ traceHash: first.traceHash, events: first.events });
});

describe("a planted bug is found:", () => {
  test.each(queueMutations)("$name", { timeout: 180_000 }, async (mutation) => {
    let found: string | undefined;
    for (let seed = 1; seed <= mutationSeedsMax && found === undefined; seed++)
      found = (await runQueueStory({ seed, mutation })).violation;
    expect(found).toMatch(mutation.shows);
  });
});
