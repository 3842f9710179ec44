import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { Rhythm } from "../../coordinator/decide/suspicion.ts";
import { limits } from "../../protocol/limits.ts";
import { distributionOf } from "../chaos/distribution.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * How soon a silent peer is suspected, and how often a living one is, over links that lose beats. The coordinator's own
 * detector under simulated beats; beside it the fixed timeout that it replaced.
 *
 *     node scripts/bench/suspicion.ts          a table
 *     node scripts/bench/suspicion.ts --json   rows {lossShare, detector, detectionMs: {p50, p99}, falsePerPeerDay}
 */

const lossShares = [0, 0.01, 0.05, 0.1, 0.2];
const beatsPerLink = 2_000_000;
const deaths = 2_000;
/** A beat is late by up to this much, and once in 500 by up to a second more: a busy machine. */
const jitterMs = 100;
const stallMs = 1_000;
const lookEveryMs = 100;
const dayBeats = 86_400_000 / limits.heartbeatIntervalMs;

interface Detector {
  readonly name: string;
  /** Whether the silence is suspicious. */
  suspects(rhythm: Rhythm, silentMs: number): boolean;
}
const detectors: readonly Detector[] = [
  { name: "accrual", suspects: (rhythm, silentMs) => rhythm.phi(silentMs) >= limits.suspicionPhi },
  { name: "fixed 5 s", suspects: (_rhythm, silentMs) => silentMs > 5_000 },
];

interface Row {
  readonly lossShare: number;
  readonly detector: string;
  readonly detectionMs: { readonly p50: number; readonly p99: number };
  /** Silences of a living peer that were taken for more. */
  readonly falsePerPeerDay: number;
}

function measure(lossShare: number, detector: Detector): Row {
  const generator = xoroshiro128plus(1 + Math.round(1_000 * lossShare));
  const uniform = () => (generator.next() >>> 0) / 2 ** 32;
  const rhythm = new Rhythm();
  const detectionMs: number[] = [];
  let lastHeardMs = 0;
  let falseAlarms = 0;
  for (let sequence = 0; sequence < beatsPerLink; sequence++) {
    if (uniform() < lossShare) continue;
    const stalled = uniform() < 1 / 500 ? stallMs * uniform() : 0;
    const heardMs = sequence * limits.heartbeatIntervalMs + jitterMs * uniform() + stalled;
    if (detector.suspects(rhythm, heardMs - lastHeardMs)) falseAlarms++;
    rhythm.hear(sequence, heardMs);
    lastHeardMs = heardMs;
    if (sequence % (beatsPerLink / deaths) === 0) detectionMs.push(silenceUntilSuspected(detector, rhythm));
  }
  const { p50, p99 } = distributionOf(detectionMs)!;
  return {
    lossShare,
    detector: detector.name,
    detectionMs: { p50, p99 },
    falsePerPeerDay: Number(((falseAlarms * dayBeats) / beatsPerLink).toPrecision(3)),
  };
}

/** The peer dies now. */
function silenceUntilSuspected(detector: Detector, rhythm: Rhythm): number {
  let silentMs = 0;
  while (!detector.suspects(rhythm, silentMs)) silentMs += lookEveryMs;
  return silentMs;
}

await runBench(async () => {
  const flags = parseBenchOptions("bench:suspicion", (command) =>
    command.description("how soon and how wrongly a silent peer is suspected, over lossy links (simulated)"),
  );
  if (!flags) return;
  const rows = lossShares.flatMap((lossShare) => detectors.map((detector) => measure(lossShare, detector)));
  if (flags.json) console.log(JSON.stringify(rows));
  else
    console.table(rows.map(({ detectionMs: { p50, p99 }, ...row }) => ({ ...row, p50Ms: p50, p99Ms: p99 })));
});
