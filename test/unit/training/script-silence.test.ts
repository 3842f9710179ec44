import { expect, test } from "vitest";
import { ScriptSilence } from "../../../agent/torch/script-silence.ts";

const bounds = { standingMs: 600_000, longestCount: 32, silentMs: 86_400_000 };
const minute = 60_000;

/** When a script is found to hang that uses so much of a core, in minutes; looked at each minute. */
function hangsAfter(silence: ScriptSilence, share: (minutes: number) => number | undefined): number {
  silence.begin(0);
  let used: number | undefined = 0;
  for (let minutes = 1; minutes <= 3_000; minutes++) {
    const more = share(minutes);
    used = used === undefined || more === undefined ? undefined : used + more * minute;
    if (silence.look(minutes * minute, used)) return minutes;
  }
  return Number.POSITIVE_INFINITY;
}

test.each([
  ["uses no processor", () => 0, 10],
  ["has threads that look around", () => 0.005, 10],
  ["computes for an hour, then stands", (minutes: number) => (minutes <= 60 ? 1 : 0), 70],
  ["computes little", () => 0.05, 1_440],
  ["computes without end", () => 1, 1_440],
  ["runs where processor time cannot be known", () => undefined, 1_440],
  ["has processes that end", (minutes: number) => (minutes % 9 === 0 ? -0.5 : 0), 1_440],
])("a script that %s", (_what, share, minutes) => {
  expect(hangsAfter(new ScriptSilence(bounds), share)).toBe(minutes);
});

test("a long silence that it has come back from makes the next one longer", () => {
  const silence = new ScriptSilence(bounds);
  silence.begin(0);
  silence.end(2 * minute);
  expect(hangsAfter(silence, () => 0)).toBe(64);
});
