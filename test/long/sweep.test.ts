import { expect, test } from "vitest";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";
import { useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2"];
const cluster = useTestCluster(names);

const sweepOf = (search: object, epochs = 4) =>
  sweepSpecSchema.parse({
    name: "digits",
    model: { architecture: "mlp", hidden: [16] },
    data: { source: "mnist", trainExamples: 1_280, testExamples: 500 },
    ...{ batchSize: 64, epochs, seed: 7 },
    search,
  });
const learningRates = { "optimizer.learningRate": { values: [1e-6, 0.01, 1e-5, 0.003] } };
const sweepIn = async (sweepId: string, state: string) => {
  await cluster.until(({ sweeps }) => sweeps.find((sweep) => sweep.id === sweepId && sweep.state === state));
  return cluster.api().sweep(sweepId);
};

test("a sweep goes on over the death of its coordinator: one trial an agent at a time, and the best is a version", async () => {
  const { id } = await cluster.api().submitSweep(sweepOf({ method: "grid", space: learningRates }));
  await cluster.until(({ jobs }) =>
    jobs.filter(({ progress }) => progress !== null).length >= 2 ? true : undefined,
  );
  await cluster.processes.coordinator.kill();
  await cluster.processes.startCoordinator();
  const sweep = await sweepIn(id, "succeeded");
  expect(sweep.trials.map(({ state }) => state)).toEqual(Array(4).fill("succeeded"));
  const jobs = await cluster.api().jobs();
  expect(jobs.map(({ trial }) => trial?.number)).toEqual([1, 2, 3, 4]);
  expect(jobs.flatMap(({ generations }) => generations.map(({ ranks }) => ranks.length))).toEqual([
    1, 1, 1, 1,
  ]);
  const losses = sweep.trials.map(({ value }) => value!);
  expect(sweep.best).toMatchObject({ value: Math.min(...losses) });
  expect([2, 4]).toContain(sweep.best!.number);
  const best = sweep.trials[sweep.best!.number - 1]!;
  expect(sweep.version).toBe("digits@1");
  const versions = await cluster.api().models();
  const weightsOf = (version: string | null) =>
    versions.find((each) => `${each.name}@${each.version}` === version)!.weightsDigest;
  expect(weightsOf(sweep.version)).toBe(weightsOf(best.version));
}, 120_000);

test("halving: trials pause at their rung, the best go on from there, and come to what they would have without a pause", async () => {
  const search = { method: "halving", trials: 4, reduction: 2, minEpochs: 1, space: learningRates };
  const { id, rungs } = await cluster.api().submitSweep(sweepOf(search));
  expect(rungs).toEqual([
    { epochs: 1, trials: 4 },
    { epochs: 2, trials: 2 },
    { epochs: 4, trials: 1 },
  ]);
  const sweep = await sweepIn(id, "succeeded");
  expect(sweep.trials.map(({ state }) => state).sort()).toEqual([
    "stopped",
    "stopped",
    "stopped",
    "succeeded",
  ]);
  const best = sweep.trials.find(({ number }) => number === sweep.best!.number)!;
  expect(best).toMatchObject({ state: "succeeded", rung: 2, step: 80 });
  const job = await cluster.api().job(best.jobId!);
  expect(job.generations.map(({ startStep }) => startStep)).toEqual([0, 20, 40]);
  // The grid has trained with the same learning rate in one go.
  const rate = (trial: { readonly parameters: object }) => Object.values(trial.parameters)[0];
  const undisturbed = (await cluster.api().sweep("sweep-1")).trials.find(
    (trial) => rate(trial) === rate(best),
  )!;
  expect(best.value).toBe(undisturbed.value);
}, 120_000);

test("an agent that dies leaves its trial to the others", async () => {
  // Long enough that a trial is seen while it runs: 2,000 steps, some seconds.
  const search = { method: "grid", space: { "optimizer.learningRate": { values: [0.01, 0.003] } } };
  const spec = sweepOf(search, 100);
  const disturbed = await cluster.api().submitSweep(spec);
  const second = cluster.processes.agent("agent-2");
  await cluster.until(({ jobs, peers }) => {
    const { peerId } = peers.find(({ name }) => name === "agent-2")!;
    return jobs.find(
      ({ trial, state, generations }) =>
        trial?.sweep === disturbed.id && state === "running" && generations[0]?.ranks[0] === peerId,
    );
  });
  await second.kill();
  const sweep = await sweepIn(disturbed.id, "succeeded");
  expect(sweep.trials.map(({ state }) => state)).toEqual(["succeeded", "succeeded"]);
  const twin = await cluster.api().submitSweep(spec);
  const undisturbed = await sweepIn(twin.id, "succeeded");
  expect(sweep.trials.map(({ value }) => value)).toEqual(undisturbed.trials.map(({ value }) => value));
}, 120_000);
