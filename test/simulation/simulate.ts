import { parseArgs } from "node:util";
import { describeOutcome, runScenario } from "./scenario.ts";

/**
 * Long runs of the simulator: `npm run simulate -- --seeds 10000`, `npm run simulate -- --seed 42 --trace`; with `--stages` of
 * models that are trained by layers.
 * Exits with 1 when a property did not hold.
 */
const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    trace: { type: "boolean", default: false },
    stages: { type: "boolean", default: false },
  },
});
const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const startedMs = performance.now();
const totals = { violations: 0, events: 0, commits: 0, generations: 0, virtualMs: 0 };

for (let seed = from; seed < from + count; seed++) {
  const outcome = await runScenario({ seed, keepsLines: values.trace, isStaged: values.stages });
  totals.events += outcome.events;
  totals.commits += outcome.commits;
  totals.generations += outcome.generations;
  totals.virtualMs += outcome.durationMs;
  if (values.trace) console.log(outcome.lines.join("\n"));
  if (outcome.violation !== undefined || values.trace) console.log(describeOutcome(outcome));
  if (outcome.violation !== undefined) totals.violations++;
}

const seconds = (performance.now() - startedMs) / 1_000;
console.log(
  `${count} seeds in ${seconds.toFixed(1)} s: ${totals.violations} violations; ${totals.generations} generations, ` +
    `${totals.commits} commits, ${totals.events} events, ${Math.round(totals.virtualMs / 1_000)} s of virtual time`,
);
process.exitCode = totals.violations > 0 ? 1 : 0;
