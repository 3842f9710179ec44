import { formatCount, formatDuration, formatPercent } from "../commands/present/quantity.ts";
import { formatFacts, formatTable } from "../commands/present/table.ts";
import type { ChaosReport } from "./chaos-report.ts";
import type { Distribution } from "./distribution.ts";

/** A chaos run as a person reads it. */
export function chaosText(report: ChaosReport): string {
  const { leaked, throughput, failures } = report;
  const facts: [string, string][] = [
    ["run", `${formatDuration(1_000 * report.seconds)}, ${report.agents} agents, seed ${report.seed}`],
    ["faults", `${report.kills} killed, ${report.stalls} stalled, ${report.leftOut} left out`],
    ["steps", `${report.steps} in ${report.generations} generations, ${report.lostSteps} lost`],
  ];
  if (report.accuracy !== null && report.baselineAccuracy !== null) {
    const undisturbed = formatPercent(report.baselineAccuracy, 2);
    facts.push(["accuracy", `${formatPercent(report.accuracy, 2)}, undisturbed ${undisturbed}`]);
  }
  facts.push(["hash mismatches", String(report.hashMismatches)]);
  facts.push(["kill to next step", distributionText(report.recoveryMs)]);
  if (report.stallRecoveryMs) facts.push(["stall to next step", distributionText(report.stallRecoveryMs)]);
  if (throughput) {
    const { share, rawShare, perRankShare, examplesPerSecond, baselineExamplesPerSecond, cores } = throughput;
    const speeds = `${formatCount(examplesPerSecond)} of ${formatCount(baselineExamplesPerSecond)} examples/s`;
    facts.push([
      "throughput",
      `${formatPercent(share)} of undisturbed, counted over live ranks on ${cores} cores`,
    ]);
    facts.push([
      "",
      `raw ${formatPercent(rawShare)} (${speeds}), a live rank ${formatPercent(perRankShare)}`,
    ]);
  }
  facts.push(["left behind", `${leaked.processes} processes, ${leaked.descriptors} descriptors`]);
  const { liveGrowthMB, rssGrowthMB } = report;
  if (liveGrowthMB !== null && rssGrowthMB !== null)
    facts.push([
      "memory growth",
      `${liveGrowthMB.toFixed(1)} MB live, ${rssGrowthMB.toFixed(1)} MB resident at most, after the first minute`,
    ]);
  const verdict =
    failures.length === 0
      ? "all invariants hold"
      : failures.map(({ message }) => `FAILED  ${message}`).join("\n");
  return `${formatFacts(facts)}\n\n${growthTable(report)}\n${verdict}`;
}

export const distributionText = (distribution: Distribution | null): string => {
  if (!distribution) return "none";
  const { p50, p99, max, count } = distribution;
  return `p50 ${Math.round(p50)} ms, p99 ${Math.round(p99)} ms, max ${Math.round(max)} ms, of ${count}`;
};

/** The longest lives only: the others say less. */
const livesShown = 6;

function growthTable({ growth }: ChaosReport): string {
  if (growth.length === 0) return "";
  const rows = growth
    .slice(0, livesShown)
    .map(({ name, seconds, descriptors, liveMB, liveMBPerMinute, residentMB }) => [
      name,
      formatDuration(1_000 * seconds),
      String(descriptors),
      liveMB?.toFixed(1) ?? "-",
      liveMBPerMinute?.toFixed(2) ?? "-",
      residentMB?.toFixed(1) ?? "-",
    ]);
  return `${formatTable(["process", "lived", "descriptors", "live MB", "MB/min", "resident MB"], rows)}\n`;
}
