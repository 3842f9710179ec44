import type { RolloutEvidence, RolloutView } from "../../../protocol/messages/rollout.ts";
import { formatCount, formatDuration, formatPercent } from "./quantity.ts";
import { formatFacts, formatTable } from "./table.ts";

type Side = NonNullable<RolloutEvidence["live"]>;

/** One line a rollout: where it stands, and why. */
export const rolloutTable = (rollouts: readonly RolloutView[]): string =>
  formatTable(
    ["version", "from", "state", "step", "weight", "requests", "errors", "95% take", "reason"],
    rollouts.map((rollout) => [
      `${rollout.name}@${rollout.version}`,
      `@${rollout.fromVersion}`,
      rollout.state,
      stepOf(rollout),
      rollout.weight > 0 ? `${rollout.weight}%` : "-",
      ...(rollout.evidence ? sideCells(rollout.evidence.candidate) : ["-", "-", "-"]),
      rollout.reason,
    ]),
  );

export function rolloutText(rollout: RolloutView): string {
  const { name, version, fromVersion, state, reason, steps, holdSeconds, bounds, alias, evidence } = rollout;
  const { maxErrorRate, maxLatencyRatio, latencySlackMs, minRequests } = bounds;
  const facts = formatFacts([
    ["rollout", `${name}@${version}, from ${name}@${fromVersion}`],
    ["state", state],
    ["reason", reason],
    ["steps", `${stepOf(rollout)} of ${steps.join(", ")}%`],
    ...(rollout.weight > 0 ? [["weight", `${rollout.weight}%`] as const] : []),
    ["hold", formatDuration(1_000 * holdSeconds)],
    [
      "allowed",
      `${formatPercent(maxErrorRate)} more errors; ${maxLatencyRatio} times the time, or ${latencySlackMs} ms more; ` +
        `judged from ${minRequests} requests on`,
    ],
    ...(alias ? [["alias", alias] as const] : []),
  ]);
  if (!evidence) return facts;
  const sides: [string, Side | null][] = [
    [`${name}@${version}`, evidence.candidate],
    [`${name}@${fromVersion}`, evidence.live],
  ];
  const rows = sides.map(([label, side]) => [
    label,
    ...(side ? [...sideCells(side), kindsOf(side)] : ["-", "-", "-", ""]),
  ]);
  return `${facts}\n\n${formatTable(["in this step", "requests", "errors", "95% take", "of them"], rows)}`;
}

const stepOf = ({ step, steps }: RolloutView): string => `${step}/${steps.length}`;

const sideCells = ({ requests, errors, p95Ms }: Side): string[] => [
  formatCount(requests),
  String(Object.values(errors).reduce((sum, count) => sum + count, 0)),
  p95Ms === null ? "-" : `${Number(p95Ms.toPrecision(2))} ms`,
];

const kindsOf = ({ errors }: Side): string =>
  Object.entries(errors)
    .map(([code, count]) => `${code} ${count}`)
    .join(", ");
