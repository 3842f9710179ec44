import { formatDuration } from "../commands/present/quantity.ts";
import { formatFacts } from "../commands/present/table.ts";
import { distributionText } from "./chaos-text.ts";
import type { CoordinatorChaosReport } from "./coordinator-run.ts";

/** A run in which the coordinator was killed, as a person reads it. */
export function coordinatorChaosText(report: CoordinatorChaosReport): string {
  const { failures, brokenInvariants } = report;
  const codes = Object.entries(failures).map(([code, count]) => `${code} ${count}`);
  const facts = formatFacts([
    ["run", `${formatDuration(1_000 * report.seconds)}, ${report.agents} agents`],
    ["coordinator", `killed ${report.coordinatorKills} times`],
    ["kill to next decision", distributionText(report.leaderlessMs)],
    ["steps", `${report.steps} in ${report.generations} generations, ${report.lostSteps} lost`],
    ["predictions", [`${report.requests}, ${report.failedRequests} failed`, ...codes].join("; ")],
    ["decisions", `${report.decisions}, ${report.lostDecisions} lost, ${report.doubledDecisions} made twice`],
    ["left behind", `${report.leaked.processes} processes`],
  ]);
  const verdict =
    brokenInvariants.length === 0
      ? "all invariants hold"
      : brokenInvariants.map((message) => `FAILED  ${message}`).join("\n");
  return `${facts}\n\n${verdict}`;
}
