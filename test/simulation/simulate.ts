import { parseArgs } from "node:util";
import { describeElection, runElection } from "./election/election.ts";
import { describeQueueStory, runQueueStory } from "./queue/queue-story.ts";
import { describeOutcome, runScenario, type ScenarioOptions } from "./scenario.ts";

/**
 * Long runs of the simulator: `npm run simulate -- --seeds 10000`, `npm run simulate -- --seed 42 --trace`; with `--what stages` of
 * models that are trained by layers, with `--what restarts` of a coordinator that dies again and again while nothing else happens, with
 * `--what cuts` of one that is cut off from all others, with `--what queue` of several jobs that share a cluster, with `--what election`
 * of several coordinators. Exits with 1 when a property did not hold.
 */
const { values } = parseArgs({
  options: {
    what: { type: "string", default: "cluster" },
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    trace: { type: "boolean", default: false },
  },
});
const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const startedMs = performance.now();
let violations = 0;
const totals = new Map<string, number>();

interface Run {
  readonly violation: string | undefined;
  readonly lines: readonly string[];
  readonly description: string;
  readonly figures: Readonly<Record<string, number>>;
}

const runOfCluster =
  (story: Pick<ScenarioOptions, "isStaged" | "only">) =>
  async (seed: number): Promise<Run> => {
    const outcome = await runScenario({ seed, keepsLines: values.trace, ...story });
    const { generations, commits, events, durationMs } = outcome;
    const figures = { generations, commits, events, "s of virtual time": durationMs / 1_000 };
    return { ...outcome, description: describeOutcome(outcome), figures };
  };
let slowestTurnMs = 0;
const runs: Readonly<Record<string, (seed: number) => Promise<Run>>> = {
  cluster: runOfCluster({}),
  stages: runOfCluster({ isStaged: true }),
  restarts: runOfCluster({ only: "restarts" }),
  cuts: runOfCluster({ only: "cuts" }),
  queue: async (seed) => {
    const outcome = await runQueueStory({ seed, keepsLines: values.trace });
    const { gangs, reclaimed, commits, events, durationMs } = outcome;
    const figures = { gangs, "agents given back": reclaimed, commits, events };
    const description = describeQueueStory(outcome);
    return { ...outcome, description, figures: { ...figures, "s of virtual time": durationMs / 1_000 } };
  },
  election: async (seed) => {
    const outcome = await runElection({ seed, keepsLines: values.trace });
    const { turns, acknowledged, leaderlessMs } = outcome;
    slowestTurnMs = Math.max(slowestTurnMs, ...leaderlessMs);
    const figures = { turns, acknowledged, "deaths of a leader alone": leaderlessMs.length };
    return { ...outcome, description: describeElection(outcome), figures };
  },
};
const run = runs[values.what];
if (!run) {
  console.error(`--what is one of: ${Object.keys(runs).join(", ")}`);
  process.exit(64);
}

for (let seed = from; seed < from + count; seed++) {
  const { violation, lines, description, figures } = await run(seed);
  for (const [name, value] of Object.entries(figures)) totals.set(name, (totals.get(name) ?? 0) + value);
  if (values.trace) console.log(lines.join("\n"));
  if (violation !== undefined || values.trace) console.log(description);
  if (violation !== undefined) violations++;
}

const seconds = (performance.now() - startedMs) / 1_000;
const figures = [...totals].map(([name, value]) => `${Math.round(value)} ${name}`).join(", ");
const slowest = slowestTurnMs > 0 ? `; the next turn after at most ${Math.round(slowestTurnMs)} ms` : "";
console.log(`${count} seeds in ${seconds.toFixed(1)} s: ${violations} violations; ${figures}${slowest}`);
process.exitCode = violations > 0 ? 1 : 0;
