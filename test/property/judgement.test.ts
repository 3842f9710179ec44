import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { type Judgement, judge } from "../../coordinator/decide/judgement.ts";
import { LatencyRecorder } from "../../protocol/latency-histogram.ts";
import { rolloutBoundsSchema } from "../../protocol/messages/rollout.ts";
import type { ServedCounts } from "../../protocol/messages/served.ts";

/** How often a judgement that is asked for again and again is wrong, and how soon it is right. It prints the figures of docs/rollout.md. */

const bounds = rolloutBoundsSchema.parse({});
const stories = 300;
/** A step of a minute, looked at twice a second, at 100 requests/s: 5 of them to the candidate. */
const looks = 120;
const perLook = { candidate: 2.5, live: 47.5 };

interface Version {
  readonly errorRate: number;
  /** Of a lognormal time with a deviation of 0.5: its 95th percentile is 2.3 times the median. */
  readonly medianMs: number;
}
const good: Version = { errorRate: 0.01, medianMs: 20 };

function drawnFrom(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  return () => (generator.next() >>> 0) / 2 ** 32;
}

class Side {
  requests = 0;
  failed = 0;
  readonly #times = new LatencyRecorder();

  serve(count: number, { errorRate, medianMs }: Version, random: () => number): void {
    for (let i = 0; i < count; i++) {
      this.requests++;
      if (random() < errorRate) this.failed++;
      else this.#times.add(medianMs * Math.exp(0.5 * normal(random)));
    }
  }

  get counts(): ServedCounts {
    return { requests: this.requests, errors: { INTERNAL: this.failed }, latency: this.#times.histogram };
  }
}

/** Box and Muller. */
const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** What one step comes to, with the candidate's requests until then. */
function story(seed: number, candidateVersion: Version) {
  const random = drawnFrom(seed);
  const [candidate, live] = [new Side(), new Side()];
  let judgement: Judgement = { verdict: "open", reason: "" };
  for (let look = 1; look <= looks; look++) {
    candidate.serve(Math.floor(perLook.candidate + random()), candidateVersion, random);
    live.serve(Math.floor(perLook.live + random()), good, random);
    judgement = judge({ candidate: candidate.counts, live: live.counts }, bounds);
    if (judgement.verdict === "broken") break;
  }
  return { verdict: judgement.verdict, requests: candidate.requests };
}

function outcomes(version: Version) {
  const all = Array.from({ length: stories }, (_, seed) => story(seed + 1, version));
  const share = (verdict: Judgement["verdict"]) =>
    all.filter((outcome) => outcome.verdict === verdict).length / stories;
  const sizes = all.map(({ requests }) => requests).toSorted((one, other) => one - other);
  const figures = { broken: share("broken"), within: share("within"), open: share("open") };
  const result = { ...figures, requestsMedian: sizes[stories / 2]! };
  console.log(JSON.stringify({ ...version, ...result }));
  return result;
}

test.each([
  ["as good as the live one", good, { brokenMax: 0, withinMin: 0.6 }],
  ["10% faster, with fewer errors", { errorRate: 0, medianMs: 18 }, { brokenMax: 0, withinMin: 0.95 }],
  [
    "as many errors more as are allowed",
    { errorRate: 0.03, medianMs: 20 },
    { brokenMax: 0.03, withinMin: 0 },
  ],
])("a version that is %s is not called worse", (_, version, { brokenMax, withinMin }) => {
  const { broken, within } = outcomes(version);
  expect(broken).toBeLessThanOrEqual(brokenMax);
  expect(within).toBeGreaterThanOrEqual(withinMin);
});

test.each([
  ["fails always", { errorRate: 1, medianMs: 20 }, 25],
  ["fails every fifth time", { errorRate: 0.2, medianMs: 20 }, 80],
  ["takes three times as long", { errorRate: 0.01, medianMs: 60 }, 100],
])("a version that %s is called worse soon, and never as good", (_, version, requestsMax) => {
  const { broken, requestsMedian } = outcomes(version);
  expect(broken).toBe(1);
  expect(requestsMedian).toBeLessThanOrEqual(requestsMax);
});
