import { expect, test } from "vitest";
import { JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";

const other = { point: pointAt(20, "other") };

test.each([
  { order: [1, 2, 3], says: "the outlier last" },
  { order: [3, 1, 2], says: "the outlier first" },
  { order: [1, 3, 2], says: "the outlier in between" },
])("of three ranks the one that differs is expelled, and heals from the others: $says", ({ order }) => {
  const bench = new JobBench().run(3);
  const effects = order.flatMap((index) => bench.checkpoint(index, 20, index === 3 ? other : {}));
  expect(effects).toEqual([expect.objectContaining({ kind: "quiesce", generation: 1 })]);
  expect(bench.job.checkpoints).toMatchObject([
    { ...pointAt(20), peers: [1, 2].map((index) => bench.job.plan!.ranks[index - 1]!.peerId) },
  ]);
  for (const index of [1, 2, 3])
    bench.ended(index, 21, { cause: "quiesced", ...(index === 3 ? { point: pointAt(21, "other") } : {}) });
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(21) });
  expect(bench.job.plan!.ranks.map(({ heals }) => heals)).toEqual([false, false, true]);
  expect(bench.job.plan!.reason).toMatch(
    /^worker-3 has other parameters than the majority at step 20 and heals/,
  );
  expect(bench.job).toMatchObject({ state: "running", diverged: [], dissents: [] });
});

test("with two against two nobody knows who is right", () => {
  const bench = new JobBench().run(4);
  for (const index of [1, 2, 3]) bench.checkpoint(index, 20, index === 3 ? other : {});
  expect(bench.job.state).toBe("running");
  bench.checkpoint(4, 20, other);
  expect(bench.job.reason).toMatch(
    /^HASH_DIVERGED: worker-1 and worker-2 against worker-3 and worker-4 at step 20/,
  );
});

test("a checkpoint that is told twice counts once", () => {
  const bench = new JobBench().run(3);
  for (const index of [1, 1, 1]) bench.checkpoint(index, 20);
  expect(bench.checkpoint(3, 20, other)).toEqual([]);
  expect(bench.checkpoint(3, 20, other)).toEqual([]);
  expect(bench.job.state).toBe("running");
});

test("what is registered is what most ranks have ended with", () => {
  const bench = new JobBench().run(3);
  bench.finished(3, { point: pointAt(100, "other"), weights: digestOf("a") });
  bench.finished(1);
  bench.finished(2);
  expect(bench.job).toMatchObject({
    state: "succeeded",
    result: { point: pointAt(100), weights: digestOf("f") },
  });
});

test("two ranks that end with unlike parameters register nothing", () => {
  const bench = new JobBench().run(2);
  bench.finished(1);
  bench.finished(2, { point: pointAt(100, "other") });
  expect(bench.job).toMatchObject({ state: "failed", failure: { code: "HASH_DIVERGED" } });
});
