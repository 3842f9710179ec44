import fc from "fast-check";
import { expect, test } from "vitest";
import { decideJob, type JobEffect } from "../../coordinator/decide/job.ts";
import { isOver } from "../../coordinator/decide/job-record.ts";
import { isAtRest } from "../../coordinator/decide/job-rest.ts";
import { JobBench, pointAt } from "../fixtures/job-bench.ts";

const peerCount = 5;
const index = fc.integer({ min: 1, max: peerCount });
const step = fc.nat(20);

type Move = (bench: JobBench) => JobEffect[];

/** Anything that agents, sockets and people can do, in any order: most of it out of place. */
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 4,
    arbitrary: index.map(
      (i): Move =>
        (bench) =>
          bench.ready(i),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(index, step).map(
      ([i, s]): Move =>
        (bench) =>
          bench.ended(i, s),
    ),
  },
  fc.tuple(index, step, fc.constantFrom("", "other")).map(
    ([i, s, v]): Move =>
      (bench) =>
        bench.ready(i, { point: pointAt(s, v) }),
  ),
  fc.nat(4_000).map(
    (ms): Move =>
      (bench) =>
        bench.tick(ms),
  ),
  fc.record({ i: index, connected: fc.boolean(), eligible: fc.boolean(), leaving: fc.boolean() }).map(
    ({ i, ...facts }): Move =>
      (bench) =>
        bench.peer(i, facts).tick(),
  ),
  fc.tuple(index, fc.constantFrom("first", "second")).map(
    ([i, incarnation]): Move =>
      (bench) =>
        bench.peer(i, { incarnation }).tick(),
  ),
  index.map(
    (i): Move =>
      (bench) =>
        bench.failed(i),
  ),
  fc.tuple(index, step).map(
    ([i, s]): Move =>
      (bench) =>
        bench.checkpoint(i, s),
  ),
  fc.tuple(index, fc.array(fc.tuple(step, fc.integer({ min: 1, max: 4 })), { maxLength: 3 })).map(
    ([i, held]): Move =>
      (bench) =>
        bench.held(
          i,
          held.map(([s, generation]) => {
            const point = pointAt(s);
            return { generation, stage: null, point, artefact: point.hash };
          }),
        ),
  ),
  fc.tuple(index, step).map(
    ([i, s]): Move =>
      (bench) =>
        bench.resumed(i, s),
  ),
  {
    weight: 1,
    arbitrary: index.map(
      (i): Move =>
        (bench) =>
          bench.finished(i),
    ),
  },
);

const steering = fc.constantFrom("pause", "resume", "cancel", "retry").map(
  (action): Move =>
    (bench) =>
      bench.decide({ kind: "steer", action, reason: "" }),
);

const history = fc.record({
  min: fc.integer({ min: 1, max: 3 }),
  extra: fc.nat(3),
  moves: fc.array(fc.oneof({ weight: 30, arbitrary: move }, steering), {
    minLength: 1,
    maxLength: 60,
  }),
});

/** Plays a history and calls back after each decision. */
function play(
  { min, extra, moves }: typeof history extends fc.Arbitrary<infer H> ? H : never,
  check: (bench: JobBench, effects: JobEffect[], before: JobBench["job"]) => void,
): void {
  const bench = new JobBench({ workers: { min, max: min + extra, spares: 0 } });
  for (let i = 1; i <= peerCount; i++) bench.peer(i);
  for (const each of moves) {
    const before = bench.job;
    check(bench, each(bench), before);
  }
}

test("a generation is numbered once, in order, and told exactly when it is decided", () => {
  fc.assert(
    fc.property(history, (story) => {
      play(story, ({ job }, effects, before) => {
        const starts = effects.filter(({ kind }) => kind === "start");
        const decided = job.generations.length - before.generations.length;
        expect(starts.length).toBe(decided);
        expect(job.generations.map(({ generation }) => generation)).toEqual(
          job.generations.map((_, i) => i + 1),
        );
        expect(job.plan?.generation ?? 0).toBe(job.generations.length);
      });
    }),
  );
});

test("a plan holds distinct members that have answered, between workers.min and workers.max", () => {
  fc.assert(
    fc.property(history, (story) => {
      play(story, (_bench, effects, before) => {
        for (const effect of effects) {
          if (effect.kind !== "start") continue;
          const { ranks, source } = effect.plan;
          const peerIds = ranks.map(({ peerId }) => peerId);
          expect(new Set(peerIds).size).toBe(peerIds.length);
          expect(peerIds).toContain(source);
          expect(ranks.length).toBeGreaterThanOrEqual(before.spec.workers.min);
          expect(ranks.length).toBeLessThanOrEqual(before.spec.workers.max);
          expect(ranks.map(({ rank }) => rank)).toEqual(ranks.map((_, rank) => rank));
          expect(ranks.every(({ host, port }) => host !== "" && port > 0)).toBe(true);
        }
      });
    }),
  );
});

test("a plan starts at the most advanced point of its ranks, where its source is, or at a later one on a disk in reach", () => {
  fc.assert(
    fc.property(history, (story) => {
      play(story, ({ job, peers }, effects) => {
        for (const effect of effects) {
          if (effect.kind !== "start") continue;
          const { ranks, start, source, checkpoint } = effect.plan;
          const points = ranks.map(({ peerId }) => job.members[peerId]!.point!);
          const most = Math.max(...points.map((point) => point.step));
          const inReach = job.held.filter((each) => each.peers.some((id) => peers.get(id)?.connected));
          expect(start.step).toBe(Math.max(most, ...inReach.map(({ point }) => point.step)));
          expect(checkpoint !== undefined).toBe(start.step > most);
          if (checkpoint !== undefined) {
            expect(ranks.every(({ heals }) => heals)).toBe(true);
            expect(inReach).toContainEqual(expect.objectContaining({ artefact: checkpoint, point: start }));
            continue;
          }
          expect(job.members[source]!.point).toEqual(start);
        }
      });
    }),
  );
});

test("no more trainers than workers.max are kept, and none on a peer that is gone anew", () => {
  fc.assert(
    fc.property(history, (story) => {
      play(story, ({ job, peers }) => {
        expect(Object.keys(job.members).length).toBeLessThanOrEqual(job.spec.workers.max);
        for (const { peerId, incarnation } of Object.values(job.members)) {
          expect(peers.get(peerId)!.incarnation).toBe(incarnation);
        }
      });
    }),
  );
});

test("the end is the end: it is registered at most once, and nothing moves after it", () => {
  fc.assert(
    fc.property(history, (story) => {
      let registered = 0;
      play(story, ({ job }, effects, before) => {
        registered += effects.filter(({ kind }) => kind === "register").length;
        if (isOver(before) && !isOver(job)) {
          // Only an operator begins anew, and never what has succeeded.
          expect(before.state).not.toBe("succeeded");
          expect(job.changes[0]).toMatch(/^tried again/);
        } else if (isOver(before)) {
          expect(job).toEqual(before);
          expect(effects.every(({ kind }) => kind === "stop")).toBe(true);
        }
        expect(registered).toBe(job.state === "succeeded" ? 1 : 0);
        if (isOver(job)) expect(job.members).toEqual({});
      });
    }),
  );
});

test("time alone decides nothing twice", () => {
  fc.assert(
    fc.property(history, (story) => {
      play(story, (bench) => {
        bench.tick();
        const settled = bench.job;
        expect(bench.tick()).toEqual([]);
        expect(bench.job).toEqual(settled);
      });
    }),
    { numRuns: 50 },
  );
});

test("a job that is at rest is one that a look around leaves as it is, however late it comes", () => {
  let rested = 0;
  fc.assert(
    fc.property(history, fc.nat(1_000_000), (story, laterMs) => {
      play(story, ({ job, peers, nowMs }) => {
        const world = { peers, nowMs: nowMs + laterMs };
        if (!isAtRest(job, world)) return;
        if (job.state === "running") rested++;
        // A grant of nobody is a look that does not ask whether the job rests.
        const { record, effects } = decideJob(job, { kind: "granted", peerIds: [] }, world);
        expect(effects).toEqual([]);
        expect(record).toEqual(job);
      });
    }),
  );
  expect(rested).toBeGreaterThan(0);
});
