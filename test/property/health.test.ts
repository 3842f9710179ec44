import fc from "fast-check";
import { expect, test } from "vitest";
import { decideHealth, type Health, noHealth } from "../../coordinator/decide/health.ts";
import type { Sighting } from "../../coordinator/decide/sighting.ts";
import { limits } from "../../protocol/limits.ts";

const sighting = (index: number, silentMs: number, changes: Partial<Sighting> = {}): Sighting => ({
  ...{ peerId: `peer-${index}`, name: `agent-${index}`, life: "first", connected: true, closed: false },
  ...{ silentMs, phi: silentMs / 500 },
  ...changes,
});

const looked = (sightings: readonly Sighting[]) => ({ sightings, wasPaused: false });

/** Looks twice a second at agents of which each is heard in some seconds and not in others. */
const history = fc
  .integer({ min: 1, max: 6 })
  .chain((count) =>
    fc.array(fc.array(fc.boolean(), { minLength: count, maxLength: count }), { minLength: 1, maxLength: 90 }),
  );

function replay(
  seconds: readonly (readonly boolean[])[],
  look: (health: Health, seen: Sighting[], nowMs: number) => void,
) {
  let health = noHealth;
  let nowMs = 0;
  const heardMs = seconds[0]!.map(() => 0);
  for (const heard of seconds)
    for (const half of [0, 1]) {
      nowMs += 500;
      heard.forEach((isHeard, i) => {
        if (isHeard && half === 0) heardMs[i] = nowMs;
      });
      const seen = heardMs.map((atMs, i) => sighting(i, nowMs - atMs));
      const decided = decideHealth(health, looked(seen), nowMs);
      expect(decideHealth(health, looked(seen), nowMs)).toEqual(decided);
      health = decided.health;
      look(health, seen, nowMs);
    }
}

test("whoever is heard is alive, and nobody dies while nobody is heard", () => {
  fc.assert(
    fc.property(history, (seconds) => {
      let before: Health = noHealth;
      replay(seconds, (health, seen) => {
        const isHeard = ({ silentMs }: Sighting) => silentMs <= 3 * limits.heartbeatIntervalMs;
        for (const each of seen)
          if (each.silentMs === 0) expect(health.judged.get(each.peerId)!.verdict).toBe("alive");
        const known = seen.filter(({ peerId }) => before.judged.get(peerId)?.verdict !== "dead");
        if (known.length > 0 && !known.some(isHeard))
          for (const { peerId } of known) expect(health.judged.get(peerId)!.verdict).not.toBe("dead");
        before = health;
      });
    }),
  );
});

test("whoever stays silent while another is heard is dead in the end", () => {
  fc.assert(
    fc.property(history, (seconds) => {
      const silence = Array.from({ length: 60 }, () => seconds[0]!.map((_, i) => i === 0));
      let last: Health = noHealth;
      replay([...seconds, ...silence], (health) => {
        last = health;
      });
      const verdicts = [...last.judged.values()].map(({ verdict }) => verdict);
      expect(verdicts).toEqual(verdicts.map((_, i) => (i === 0 ? "alive" : "dead")));
    }),
  );
});

test("a storm is one entry of bounded size", () => {
  const all = Array.from({ length: 1_000 }, (_, i) => sighting(i, 0));
  const { health } = decideHealth(noHealth, looked(all), 0);
  const silent = all.map((each, i) => (i < 400 ? sighting(i, 5_000 + i) : each));
  const { decision, isChanged } = decideHealth(health, looked(silent), 5_000);
  expect(isChanged).toBe(true);
  expect(decision!.event).toMatchObject({ kind: "members-judged", count: 400 });
  expect(JSON.stringify(decision).length).toBeLessThan(4_000);
  expect(decision!.reason).toBe(
    "agent-0, agent-1, agent-2 and 397 more are suspected: silent for 5.0 to 5.4 s (phi 10.0 to 10.8)",
  );
});
