import fc from "fast-check";
import { expect, test } from "vitest";
import { changeCandidate } from "../../coordinator/decide/candidate.ts";
import { applyChanges, changesBetween } from "../../coordinator/decide/change.ts";
import type { DeploymentWorld } from "../../coordinator/decide/deployment.ts";
import { judge } from "../../coordinator/decide/judgement.ts";
import { type DeploymentRecord, newDeployment } from "../../coordinator/decide/placement.ts";
import { decideRollout, type RolloutEvent } from "../../coordinator/decide/rollout.ts";
import { isRolloutOver, type RolloutRecord, weightOf } from "../../coordinator/decide/rollout-record.ts";
import { lacking, looked, ordered, requested, sightOf, whole } from "../fixtures/rollouts.ts";
import { served } from "../fixtures/served.ts";
import { memoryPeerId } from "../simulation/memory-network.ts";

/** One moment of a rollout's life: what happens, and how the world looks. */
const moment = fc.record({
  event: fc.oneof(
    { weight: 6, arbitrary: fc.constant<RolloutEvent>(looked) },
    fc
      .record({ order: fc.constantFrom("pause", "resume", "promote", "abort"), full: fc.boolean() })
      .map(({ order, full }): RolloutEvent => ordered(order, { full })),
  ),
  passedMs: fc.nat(100_000),
  isWhole: fc.boolean(),
  requests: fc.nat(400),
  failed: fc.nat(3),
  liveRequests: fc.nat(2_000),
});
const steps = fc
  .uniqueArray(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 5 })
  .map((all) => all.toSorted((one, other) => one - other));
const story = fc.record({ steps, moments: fc.array(moment, { maxLength: 40 }) });

const world: DeploymentWorld = {
  servers: [1, 2, 3].map((index) => memoryPeerId(index)),
  isFlapping: () => false,
  lifeOf: () => "first",
  nameOf: (peerId) => peerId,
  mayReturn: () => false,
};

interface Told {
  readonly before: RolloutRecord;
  readonly after: RolloutRecord;
  readonly event: RolloutEvent;
  readonly sight: ReturnType<typeof sightOf>;
  readonly deployments: ReadonlyMap<number, DeploymentRecord>;
}

/** Lets a rollout live through a story, with the deployments that follow from it. */
function live({
  steps,
  moments,
}: {
  steps: number[];
  moments: (typeof moment extends fc.Arbitrary<infer M> ? M : never)[];
}) {
  const old = { deployment: 11, name: "digits", version: 1, replicaCount: 2, live: true };
  const deployments = new Map<number, DeploymentRecord>([
    [11, newDeployment(old, [{ fromLayer: 0, toLayer: 2 }])],
  ]);
  const told: Told[] = [];
  let rollout: RolloutRecord | undefined;
  let nowMs = 1_000;
  const decide = (event: RolloutEvent, sight: Told["sight"]) => {
    const before = rollout;
    let decision: ReturnType<typeof decideRollout>;
    try {
      decision = decideRollout(rollout, event, sight);
    } catch {
      return; // refused: nothing has happened
    }
    rollout = decision.rollout;
    if (decision.action) {
      const { put, removed } = changeCandidate(deployments, decision.action, world);
      for (const { deployment } of removed) deployments.delete(deployment);
      for (const record of put) deployments.set(record.deployment, record);
    }
    if (before) told.push({ before, after: rollout, event, sight, deployments: new Map(deployments) });
  };
  decide(requested({ steps }), sightOf({ nowMs }));
  for (const { event, passedMs, isWhole, requests, failed, liveRequests } of moments) {
    nowMs += passedMs;
    const evidence = {
      candidate: served(requests, { failed: Math.min(failed, requests) }),
      live: served(liveRequests),
    };
    decide(event, sightOf({ nowMs, candidate: isWhole ? whole : lacking, evidence }));
  }
  return told;
}

test("exactly one is live at any time, and the candidate is there exactly while its rollout is under way", () => {
  fc.assert(
    fc.property(story, (it) => {
      for (const { after, deployments } of live(it)) {
        const all = [...deployments.values()];
        expect(all.filter((record) => record.live).length).toBe(1);
        expect(all.find((record) => record.live)!.version).toBe(after.state === "promoted" ? 2 : 1);
        const weights = all.flatMap(({ weight }) => (weight === undefined ? [] : [weight]));
        expect(weights).toEqual(isRolloutOver(after) ? [] : [weightOf(after)]);
      }
    }),
  );
});

test("weights only rise, a step at a time, until it is over; and what is over stays so", () => {
  fc.assert(
    fc.property(story, (it) => {
      for (const { before, after } of live(it)) {
        expect([0, 1]).toContain(after.step - before.step);
        if (isRolloutOver(before)) expect(after).toBe(before);
      }
    }),
  );
});

test("nothing steps or is promoted without an operator but with all replicas, the whole hold and evidence of this step", () => {
  fc.assert(
    fc.property(story, (it) => {
      for (const { before, after, event, sight } of live(it)) {
        const stepped =
          after.step > before.step || (after.state === "promoted" && before.state !== "promoted");
        if (!stepped || event.kind === "ordered") continue;
        expect(sight.candidate?.isWhole).toBe(true);
        if (before.step === 0) continue;
        expect(sight.nowMs - before.steppedAtMs).toBeGreaterThanOrEqual(before.holdMs);
        expect(judge(sight.evidence, before.bounds).verdict).toBe("within");
        expect(sight.evidence.candidate.requests).toBeGreaterThanOrEqual(before.bounds.minRequests);
      }
    }),
  );
});

test("what the log keeps of each decision leads to the same rollout", () => {
  fc.assert(
    fc.property(story, (it) => {
      const told = live(it);
      let replayed: unknown = told[0]?.before;
      for (const { before, after } of told) replayed = applyChanges(replayed, changesBetween(before, after));
      expect(replayed).toEqual(told.at(-1)?.after);
    }),
  );
});
