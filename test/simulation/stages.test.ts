import { describe, expect, test } from "vitest";
import { ReportOutbox } from "../../agent/training/report-outbox.ts";
import { Column } from "../../agent/training/stages/column.ts";
import { StageCheckpointer } from "../../agent/training/stages/stage-checkpointer.ts";
import { StageTrainer } from "../../agent/training/stages/stage-trainer.ts";
import { trainingPoint } from "../../agent/training/training-state.ts";
import { drawUnseenDeaths } from "./faults.ts";
import { type Mutation, replacing } from "./mutations.ts";
import { describeOutcome, runScenario } from "./scenario.ts";

/** As cluster.test.ts, of a model whose layers are trained on different machines: two or three stages, each with some replicas. */
const { RINGFOLD_SIM_SEEDS } = process.env;
/** Stops early on a slow machine, but not before the least number. */
const seeds = { least: 30, most: Number(RINGFOLD_SIM_SEEDS ?? 150) };
const timeBoxMs = RINGFOLD_SIM_SEEDS === undefined ? 12_000 : Number.POSITIVE_INFINITY;
/** A planted bug that is not found within so many seeds counts as not found. */
const mutationSeedsMax = 100;

test("whatever dies, and when: what must hold holds, and the job ends", { timeout: 3_600_000 }, async () => {
  const startedMs = performance.now();
  const stageCounts = new Set<unknown>();
  for (let seed = 1; seed <= seeds.most; seed++) {
    if (seed > seeds.least && performance.now() - startedMs > timeBoxMs) break;
    const outcome = await runScenario({ seed, isStaged: true });
    stageCounts.add(outcome.spec.stages);
    expect.soft(outcome.violation, describeOutcome(outcome)).toBeUndefined();
  }
  expect(stageCounts).toEqual(new Set([2, 3]));
});

/** In some of these stories all checkpoints that the coordinator knew of had been replaced by newer ones, of later than step 40. */
test("what was written while the coordinator was away is gone on from, though all who wrote it died", async () => {
  const steps: number[] = [];
  for (let seed = 1; seed <= 12; seed++) {
    const outcome = await runScenario({ seed, isStaged: true, faults: drawUnseenDeaths });
    expect(outcome.violation, describeOutcome(outcome)).toBeUndefined();
    steps.push(Number(/ stages from step (\d+)$/.exec(outcome.reasons[1] ?? "")?.[1] ?? 0));
  }
  expect(Math.max(...steps)).toBeGreaterThan(40);
});

test("a seed replays to the last event", async () => {
  const first = await runScenario({ seed: 7, isStaged: true });
  const second = await runScenario({ seed: 7, isStaged: true, keepsLines: true });
  expect(second).toMatchObject({ traceHash: first.traceHash, events: first.events });
});

const mutations: readonly Mutation[] = [
  {
    name: "a stage applies a step whose totals never came",
    shows:
      /^(replicas are equal|a step needs every rank|progress|no finished step is lost|every state has an origin)/,
    plant: replacing(
      Column.prototype,
      "sum",
      (original) =>
        async function (this: Column, ...parameters) {
          await original.apply(this, parameters).catch(() => undefined);
        },
    ),
  },
  {
    name: "a stage that goes back to a checkpoint forgets its optimizer",
    shows: /^(replicas are equal|every state has an origin)/,
    plant: replacing(
      StageTrainer.prototype,
      "restoreState",
      (original) =>
        async function (this: StageTrainer, state) {
          await original.call(this, state);
          for (const slot of Object.values(this.state.slots)) slot.fill(0);
        },
    ),
  },
  {
    name: "a checkpoint of a stage is found again one step too far",
    // The coordinator knows better than a fresh trainer; what nobody else has of these steps then looks lost.
    shows:
      /^(every state has an origin|every example once|replicas are equal|all ranks start alike|no finished step is lost|progress)/,
    // It shows where all who have a stage die at once.
    faults: (random, machineCount) => {
      const diedAtMs = random.real(2_600, 5_000);
      return Array.from({ length: machineCount }, (_, machine) => ({
        atMs: diedAtMs + random.real(0, 300),
        fault: { kind: "kill-agent", machine, withTrainers: true, forMs: 50 },
      }));
    },
    plant: replacing(
      StageCheckpointer.prototype,
      "restore",
      (original) =>
        async function (this: StageCheckpointer, trainer) {
          const restored = await original.call(this, trainer);
          if (restored) (trainer as StageTrainer).state.step++;
          return restored;
        },
    ),
  },
  {
    name: "an agent says nothing of what lies on its disk",
    shows: /^what lies on disks is not forgotten/,
    faults: drawUnseenDeaths,
    plant: replacing(
      ReportOutbox.prototype,
      "push",
      (original) =>
        function (this: ReportOutbox, report) {
          if (report.kind === "held") return;
          original.call(this, "held" in report ? { ...report, held: [] } : report);
        },
    ),
  },
  {
    name: "a stage begins where the plan does not say",
    shows: /^(all ranks start alike|no finished step is lost)/,
    changePlan: (plan, { state }) => {
      const { step, hash } = trainingPoint(state);
      return {
        ...plan,
        start: { ...plan.start, step },
        stages: plan.stages!.map((start) => ({ ...start, hash })),
        ranks: plan.ranks.map((rank) => ({ ...rank, heals: false })),
      };
    },
  },
];

describe("a planted bug is found:", () => {
  test.each(mutations)("$name", { timeout: 60_000 }, async (mutation) => {
    let found: string | undefined;
    for (let seed = 1; seed <= mutationSeedsMax && found === undefined; seed++)
      found = (await runScenario({ seed, mutation, isStaged: true })).violation;
    expect(found).toMatch(mutation.shows);
  });
});
