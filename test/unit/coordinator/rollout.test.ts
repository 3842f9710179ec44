import { describe, expect, test } from "vitest";
import { decideRollout, type RolloutSight } from "../../../coordinator/decide/rollout.ts";
import { rolloutTakenOver, rolloutView } from "../../../coordinator/decide/rollout-record.ts";
import {
  asGood,
  lacking,
  looked,
  ordered,
  requested,
  rolloutAt,
  sightOf,
  tooFew,
  whole,
  worse,
} from "../../fixtures/rollouts.ts";
import { served } from "../../fixtures/served.ts";

const holdMs = 60_000;
const later = { nowMs: 1_000 + holdMs };
const look = (step: number, changes: Partial<RolloutSight>) =>
  decideRollout(rolloutAt(step), looked, sightOf(changes));

test("a rollout begins by placing its candidate, which gets no request yet", () => {
  const { rollout, action, reason } = decideRollout(undefined, requested(), sightOf());
  expect(rolloutView(rollout)).toMatchObject({
    state: "placing",
    step: 0,
    weight: 0,
    fromVersion: 1,
    version: 2,
  });
  expect(action).toMatchObject({ kind: "place", deployment: 12, name: "digits", version: 2, replicas: 2 });
  expect(reason).toBe("rolls out digits@2 beside digits@1, by 5, 25, 50, 100%");
});

test.each([
  { what: "loads still", step: 0, sees: { candidate: lacking }, says: /^waits for its replicas: 0 of 2/ },
  { what: "has lost replicas", step: 2, sees: { candidate: lacking }, says: /^holds at 25%: 0 of 2/ },
  { what: "is held", step: 1, sees: { nowMs: 60_999 }, says: /^holds 5% for 60 s; fails 0% of 500/ },
  {
    what: "has seen no traffic",
    step: 1,
    sees: { ...later, evidence: { candidate: served(0), live: served(500) } },
    says: /^waits at 5%: no request has come to it$/,
  },
  {
    what: "has seen three failures",
    step: 1,
    sees: { ...later, evidence: tooFew },
    says: /^waits at 5%: 3 of at least 100/,
  },
])("a candidate that $what stays where it is, and says so", ({ step, sees, says }) => {
  const { rollout, action, reason } = look(step, sees);
  expect(reason).toMatch(says);
  expect({ step: rollout.step, action }).toEqual({ step, action: null });
});

test("replicas that are ready begin the first step; a hold that is over and good evidence the next one", () => {
  expect(look(0, {})).toMatchObject({
    rollout: { state: "progressing", step: 1, steppedAtMs: 1_000, evidence: null },
    action: { kind: "weigh", deployment: 12, weight: 5 },
    reason: "5% of the requests go to digits@2: 2 of 2 replicas are ready",
  });
  expect(look(1, later)).toMatchObject({
    rollout: { state: "progressing", step: 2, steppedAtMs: later.nowMs, baseline: asGood.live },
    action: { kind: "weigh", weight: 25 },
    reason:
      "25% of the requests go to digits@2: fails 0% of 500; 95% of its answers take up to 11 ms, of the live one 11 ms",
  });
});

test("after the last step it is promoted", () => {
  expect(look(4, later)).toMatchObject({
    rollout: { state: "promoted", endedAtMs: 1_000, evidence: { candidate: { requests: 500 } } },
    action: { kind: "promote", deployment: 12 },
    reason: expect.stringMatching(/^digits@2 takes over from digits@1: fails 0% of 500/),
  });
});

test("what the live version answered in the last step with enough of it is kept, for when nothing goes to it any more", () => {
  const enough = look(1, later).rollout;
  const few = { candidate: served(500), live: served(3) };
  expect(decideRollout(enough, ordered("promote"), sightOf({ evidence: few })).rollout.baseline).toEqual(
    asGood.live,
  );
  const early = decideRollout(rolloutAt(0), ordered("promote"), sightOf({ evidence: few })).rollout;
  expect(early.baseline).toBeNull();
});

test.each([1, 2, 3, 4])("a worse candidate is rolled back at once, at step %i", (step) => {
  expect(look(step, { evidence: worse })).toMatchObject({
    rollout: { state: "rolled-back", endedAtMs: 1_000 },
    action: { kind: "withdraw", deployment: 12 },
    reason: expect.stringMatching(
      /^rolled back at \d+%: it fails 40% of 500.*NOT_FINITE 200\); digits@1 answers everything$/,
    ),
  });
});

describe("a candidate that lacks replicas", () => {
  test("is noted once, held while it does, and begins the hold of its step anew when it is whole", () => {
    const lost = look(2, { candidate: lacking, nowMs: 5_000 });
    expect(lost).toMatchObject({
      rollout: { lackingSinceMs: 5_000 },
      reason: "holds at 25%: 0 of 2 replicas are ready",
    });
    const held = decideRollout(lost.rollout, looked, sightOf({ candidate: lacking, nowMs: 500_000 }));
    expect(held.rollout).toBe(lost.rollout);
    expect(decideRollout(lost.rollout, looked, sightOf({ candidate: whole, nowMs: 500_000 }))).toMatchObject({
      rollout: { step: 2, lackingSinceMs: null, steppedAtMs: 500_000 },
      reason: "all replicas are ready again; 25% is held anew",
    });
  });

  test.each([0, 2])("is given up after the deadline, at step %i", (step) => {
    const { rollout } = look(step, { candidate: lacking });
    const late = sightOf({ candidate: lacking, nowMs: 1_000 + 600_000 });
    expect(decideRollout(rollout, looked, late)).toMatchObject({
      rollout: { state: "rolled-back" },
      action: { kind: "withdraw" },
      reason: expect.stringMatching(/: 0 of 2 replicas are ready, for 600 s; digits@1 answers everything$/),
    });
  });
});

test.each([{ isLive: false }, { candidate: null }])("a rollout whose sides are gone is over: %j", (gone) => {
  expect(look(2, gone)).toMatchObject({ rollout: { state: "aborted" }, action: { kind: "withdraw" } });
});

describe("operators", () => {
  test("a pause keeps the weight, whatever the evidence; it does not protect what is worse", () => {
    const paused = decideRollout(rolloutAt(2), ordered("pause", { detail: "lunch" }), sightOf());
    expect(paused).toMatchObject({
      rollout: { state: "paused", step: 2 },
      ...{ action: null, reason: "paused at 25% by an operator: lunch" },
    });
    expect(decideRollout(paused.rollout, looked, sightOf(later)).rollout).toBe(paused.rollout);
    const broken = decideRollout(paused.rollout, looked, sightOf({ evidence: worse }));
    expect(broken.rollout.state).toBe("rolled-back");
  });

  test("a resumed rollout holds its step from the beginning", () => {
    const paused = decideRollout(rolloutAt(2), ordered("pause"), sightOf()).rollout;
    const resumed = decideRollout(paused, ordered("resume"), sightOf({ nowMs: 90_000 }));
    expect(resumed.rollout).toMatchObject({ state: "progressing", step: 2, steppedAtMs: 90_000 });
    const placing = decideRollout(rolloutAt(0), ordered("pause"), sightOf()).rollout;
    expect(decideRollout(placing, looked, sightOf()).action).toBeNull();
    expect(decideRollout(placing, ordered("resume"), sightOf()).rollout.state).toBe("placing");
  });

  test("a promotion takes the next step whatever the hold, and with `full` the last one", () => {
    const tooEarly = sightOf({ evidence: tooFew });
    expect(decideRollout(rolloutAt(2), ordered("promote"), tooEarly)).toMatchObject({
      rollout: { state: "progressing", step: 3 },
      action: { kind: "weigh", weight: 50 },
    });
    expect(decideRollout(rolloutAt(1), ordered("promote", { full: true }), tooEarly)).toMatchObject({
      rollout: { state: "promoted" },
      action: { kind: "promote" },
    });
    expect(decideRollout(rolloutAt(4), ordered("promote"), tooEarly).rollout.state).toBe("promoted");
  });

  test("what cannot answer is not promoted", () => {
    const promote = (full: boolean, candidate: typeof whole) => () =>
      decideRollout(rolloutAt(1), ordered("promote", { full }), sightOf({ candidate }));
    expect(promote(true, lacking)).toThrowError(expect.objectContaining({ code: "CONFLICT" }));
    expect(promote(false, { ...lacking, canAnswer: true })).toThrowError(
      /cannot answer all requests: 0 of 2/,
    );
    expect(promote(true, { ...lacking, canAnswer: true })().rollout.state).toBe("promoted");
  });

  test("an abort takes the candidate away", () => {
    expect(decideRollout(rolloutAt(3), ordered("abort", { detail: "wrong data" }), sightOf())).toMatchObject({
      rollout: { state: "aborted" },
      action: { kind: "withdraw", deployment: 12 },
      reason: "aborted at 50% by an operator: wrong data; digits@1 answers everything",
    });
  });

  test("an order that is said again changes nothing, and one that comes too late is refused", () => {
    const aborted = decideRollout(rolloutAt(3), ordered("abort"), sightOf()).rollout;
    expect(decideRollout(aborted, ordered("abort"), sightOf()).rollout).toBe(aborted);
    const paused = decideRollout(rolloutAt(3), ordered("pause"), sightOf()).rollout;
    expect(decideRollout(paused, ordered("pause"), sightOf()).rollout).toBe(paused);
    const running = rolloutAt(3);
    expect(decideRollout(running, ordered("resume"), sightOf()).rollout).toBe(running);
    for (const order of ["pause", "resume", "promote"] as const)
      expect(() => decideRollout(aborted, ordered(order), sightOf())).toThrowError(/is over: aborted/);
    expect(decideRollout(aborted, looked, sightOf({ evidence: worse })).rollout).toBe(aborted);
  });

  test("a second rollout of a name waits for the end of the first", () => {
    const start = (earlier: ReturnType<typeof rolloutAt>) => () =>
      decideRollout(earlier, requested(), sightOf());
    expect(start(rolloutAt(2))).toThrowError(expect.objectContaining({ code: "CONFLICT" }));
    const aborted = decideRollout(rolloutAt(2), ordered("abort"), sightOf()).rollout;
    expect(start(aborted)().rollout.state).toBe("placing");
  });
});

test("a new term takes a rollout over at its step, with all waits from their beginning", () => {
  const lost = look(2, { candidate: lacking }).rollout;
  expect(rolloutTakenOver(lost, 7_000_000)).toEqual({
    ...lost,
    steppedAtMs: 7_000_000,
    lackingSinceMs: 7_000_000,
  });
  const whole = rolloutAt(2);
  expect(rolloutTakenOver(whole, 5)).toEqual({ ...whole, steppedAtMs: 5 });
});
