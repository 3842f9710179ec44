import { describe, expect, test } from "vitest";
import { believesSilence, flippedBit, mutations, pausesAtReturn } from "./mutations.ts";
import { describeOutcome, runScenario } from "./scenario.ts";

/**
 * The real coordinator, membership, job runner, trainer and ring under a seeded clock, network, disk and compute engine.
 * RINGFOLD_SIM_SEED replays one seed; RINGFOLD_SIM_SEEDS runs so many, however long it takes.
 */
const { RINGFOLD_SIM_SEED, RINGFOLD_SIM_SEEDS } = process.env;
/** Stops early on a slow machine, but not before the least number. */
const seeds = { least: 60, most: Number(RINGFOLD_SIM_SEEDS ?? 250) };
const timeBoxMs = RINGFOLD_SIM_SEEDS === undefined ? 12_000 : Number.POSITIVE_INFINITY;
/** A planted bug that is not found within so many seeds counts as not found. */
const mutationSeedsMax = 150;

test("whatever the faults, what must hold holds, and the job ends when they do", {
  timeout: 3_600_000,
}, async () => {
  const startedMs = performance.now();
  const first = Number(RINGFOLD_SIM_SEED ?? 1);
  const last = RINGFOLD_SIM_SEED === undefined ? seeds.most : first;
  for (let seed = first; seed <= last; seed++) {
    if (seed > seeds.least && performance.now() - startedMs > timeBoxMs) break;
    const outcome = await runScenario({ seed });
    expect.soft(outcome.violation, describeOutcome(outcome)).toBeUndefined();
  }
});

/** A coordinator that took rings for abandoned before their agents were back showed at the 23rd. */
const restartSeeds = 60;

test("a coordinator that dies and comes back is no reason to form a ring anew", {
  timeout: 120_000,
}, async () => {
  for (let seed = 1; seed <= restartSeeds; seed++) {
    const outcome = await runScenario({ seed, only: "restarts" });
    expect.soft(outcome.violation, describeOutcome(outcome)).toBeUndefined();
  }
});

test("a planted bug is found: a trainer stops at a step boundary when the coordinator is back", {
  timeout: 60_000,
}, async () => {
  const found = await firstViolation((seed) =>
    runScenario({ seed, only: "restarts", mutation: pausesAtReturn }),
  );
  expect(found).toMatch(pausesAtReturn.shows);
});

/** A coordinator that took all for dead that it did not hear showed at the first. */
const cutSeeds = 40;

test("a coordinator that is cut off from all others is no reason to form a ring anew", {
  timeout: 120_000,
}, async () => {
  for (let seed = 1; seed <= cutSeeds; seed++) {
    const outcome = await runScenario({ seed, only: "cuts" });
    expect.soft(outcome.violation, describeOutcome(outcome)).toBeUndefined();
  }
});

test("a planted bug is found: a coordinator takes all for dead that it does not hear", {
  timeout: 60_000,
}, async () => {
  const found = await firstViolation((seed) =>
    runScenario({ seed, only: "cuts", mutation: believesSilence }),
  );
  expect(found).toMatch(believesSilence.shows);
});

/** One of two machines trains, both die, and the other one is given the job. */
test("a checkpoint with an agent that works for the job no more is gone on from", async () => {
  const reasons: string[] = [];
  const isFound = () =>
    reasons.some((reason) => /1 worker from step \d+, which another agent has on its disk$/.test(reason));
  for (let seed = 1; seed <= 100 && !isFound(); seed++) {
    const outcome = await runScenario({
      ...{ seed, workers: { min: 1, max: 1, spares: 0 } },
      faults: (random, machineCount) => {
        const diedAtMs = random.real(900, 1_900);
        return Array.from({ length: machineCount }, (_, machine) => ({
          atMs: diedAtMs + 20 * machine,
          fault: { kind: "kill-agent", machine, withTrainers: true, forMs: random.real(200, 2_000) },
        }));
      },
    });
    expect(outcome.violation, describeOutcome(outcome)).toBeUndefined();
    reasons.push(...outcome.reasons);
  }
  expect(isFound()).toBe(true);
});

test.each([3, 11, 42])("seed %i replays to the last event", async (seed) => {
  const first = await runScenario({ seed });
  const second = await runScenario({ seed, keepsLines: true });
  expect(second).toMatchObject({ traceHash: first.traceHash, events: first.events });
});

test("another seed is another history", async () => {
  const hashes = new Set<string>();
  for (const seed of [1, 2, 3]) hashes.add((await runScenario({ seed })).traceHash);
  expect(hashes.size).toBe(3);
});

describe("a planted bug is found:", () => {
  test.each(mutations)("$name", { timeout: 60_000 }, async (mutation) => {
    const found = await firstViolation((seed) => runScenario({ seed, mutation }));
    expect(found).toMatch(mutation.shows);
  });
});

test("a rank whose parameters differ is expelled by the majority, heals, and the job ends as it should", {
  timeout: 60_000,
}, async () => {
  const mutation = { ...flippedBit, tolerates: /^(replicas are equal|every state has an origin)/ };
  let expelled = 0;
  for (let seed = 1; seed <= 12; seed++) {
    const outcome = await runScenario({ seed, mutation });
    expect.soft(outcome.violation, describeOutcome(outcome)).toBeUndefined();
    expelled += outcome.reasons.filter((reason) => reason.includes("other parameters")).length;
  }
  expect(expelled).toBeGreaterThan(2);
});

async function firstViolation(
  run: (seed: number) => ReturnType<typeof runScenario>,
): Promise<string | undefined> {
  for (let seed = 1; seed <= mutationSeedsMax; seed++) {
    const { violation } = await run(seed);
    if (violation !== undefined) return violation;
  }
  return undefined;
}
