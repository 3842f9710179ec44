import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openArtefactStore } from "../../../agent/artefact/store.ts";
import { Checkpointer } from "../../../agent/training/checkpoints/checkpointer.ts";
import { createOptimizer } from "../../../agent/training/optimizer.ts";
import {
  encodeState,
  initialState,
  restoreState,
  type TrainingState,
} from "../../../agent/training/training-state.ts";
import { damageFile } from "../../fixtures/damage.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

const layout = [{ name: "w", shape: [4], offset: 0, elementCount: 4 }];
const freshState = () =>
  initialState(4, createOptimizer({ kind: "sgd", learningRate: 0.1, momentum: 0.9 }, []));

function stateAt(step: number) {
  const state = freshState();
  state.step = step;
  state.parameters.set([step, -step, 1 / step, Math.PI * step]);
  return state;
}

/** What trains, as far as checkpoints see it. */
const holder = (state: TrainingState, of = layout) => ({
  encodeState: async () => encodeState(state, of),
  restoreState: async (bytes: Uint8Array) => restoreState(state, bytes, of),
});
const at = (step: number) => holder(stateAt(step));
const when = (step: number, generation = 1) => ({ generation, point: { step, hash: "" } });

function open(path = join(temporaryFolder(), "artefacts")) {
  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  const checkpointer = (jobId = "job-1", keepLast = 1) =>
    new Checkpointer({ jobId, store, everySteps: 20, keepLast });
  return { path, store, checkpointer };
}

test("due at every so many steps", () => {
  const checkpointer = open().checkpointer();
  expect([1, 19, 20, 21, 40].map((step) => checkpointer.isDue(step, 1))).toEqual([
    false,
    false,
    true,
    false,
    true,
  ]);
});

test("due at the first synchronization point from every so many steps on", () => {
  const checkpointer = open().checkpointer();
  expect([16, 32, 48, 60].map((step) => checkpointer.isDue(step, 16))).toEqual([false, true, true, true]);
});

test("the newest checkpoint is found after a restart, and the ones before are gone", async () => {
  const { store, path, checkpointer } = open();
  for (const step of [20, 40]) await checkpointer().save(at(step), when(step));
  expect(store.list()).toHaveLength(1);
  await store.close();
  const state = freshState();
  expect(await open(path).checkpointer().restore(holder(state))).toBe(true);
  expect(state).toEqual(stateAt(40));
});

test("the last three are kept, and no more", async () => {
  const { store, checkpointer } = open();
  const digests: string[] = [];
  for (const step of [20, 40, 60, 80, 100])
    digests.push(await checkpointer("job-1", 3).save(at(step), when(step)));
  expect(new Set(store.list())).toEqual(new Set(digests.slice(2)));
  const state = freshState();
  expect(await checkpointer("job-1", 3).restore(holder(state))).toBe(true);
  expect(state.step).toBe(100);
});

test("a damaged one is passed over for the one before it", async () => {
  const { store, path, checkpointer } = open();
  for (const step of [20, 40]) await checkpointer("job-1", 2).save(at(step), when(step));
  await store.close();
  damageFile(join(path, "data.mdb"), new Uint8Array(stateAt(40).parameters.buffer));
  const state = freshState();
  expect(await open(path).checkpointer("job-1", 2).restore(holder(state))).toBe(true);
  expect(state).toEqual(stateAt(20));
});

test("one of a step that the job has gone back from is the first to go", async () => {
  const { checkpointer } = open();
  for (const step of [20, 60]) await checkpointer("job-1", 2).save(at(step), when(step));
  await checkpointer("job-1", 2).save(at(40), when(40));
  const state = freshState();
  await checkpointer("job-1", 2).restore(holder(state));
  expect(state.step).toBe(40);
});

test("saving one state twice keeps it", async () => {
  const { store, checkpointer } = open();
  const digests = [await checkpointer().save(at(20), when(20)), await checkpointer().save(at(20), when(20))];
  expect(store.list()).toEqual([digests[1]]);
});

test("a job has its own checkpoints", async () => {
  const { checkpointer } = open();
  await checkpointer("job-1").save(at(20), when(20));
  expect(await checkpointer("job-2").restore(holder(freshState()))).toBe(false);
  await checkpointer("job-2").save(at(60), when(60));
  const state = freshState();
  await checkpointer("job-1").restore(holder(state));
  expect(state.step).toBe(20);
});

test("a damaged checkpoint is passed over, and the state stays as it was", async () => {
  const { store, path, checkpointer } = open();
  await checkpointer().save(at(20), when(20));
  await store.close();
  damageFile(join(path, "data.mdb"), new Uint8Array(stateAt(20).parameters.buffer));
  const state = stateAt(3);
  expect(await open(path).checkpointer().restore(holder(state))).toBe(false);
  expect(state).toEqual(stateAt(3));
});

test("a checkpoint of another model is passed over", async () => {
  const { checkpointer } = open();
  await checkpointer().save(at(20), when(20));
  const other = [{ name: "other", shape: [4], offset: 0, elementCount: 4 }];
  expect(await checkpointer().restore(holder(freshState(), other))).toBe(false);
});

test("a fetched checkpoint replaces a state that is not as far, and is one of ours from then on", async () => {
  const theirs = open();
  const digest = await theirs.checkpointer().save(at(40), when(40));
  const { store, checkpointer } = open();
  await checkpointer().save(at(20), when(20));
  await store.put(theirs.store.get(digest));
  const state = stateAt(20);
  const trainee = { ...holder(state), point: () => ({ step: state.step, hash: "" }) };
  await checkpointer().adopt(trainee, { digest, step: 40 });
  expect(state).toEqual(stateAt(40));
  expect(store.list()).toEqual([digest]);
  await checkpointer().adopt(trainee, { digest: "0".repeat(64), step: 40 }); // not looked at
  await checkpointer().save(at(60), when(60));
  expect(store.list()).not.toContain(digest);
});
