import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openArtefactStore, sha256 } from "../../../agent/artefact/store.ts";
import { Checkpointer } from "../../../agent/training/checkpoints/checkpointer.ts";
import { heldCheckpoints, jobsHeld } from "../../../agent/training/checkpoints/held-checkpoints.ts";
import { readCheckpoint } from "../../../agent/training/checkpoints/read-checkpoint.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { damageFile } from "../../fixtures/damage.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

const never = new AbortController().signal;
const bytesOf = (text: string) => Buffer.from(text);
const pointOf = (step: number) => ({ step, hash: digestOf("b") });

function open(path = join(temporaryFolder(), "artefacts")) {
  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  const save = (of: string, generation: number, step: number, keepLast = 2) =>
    new Checkpointer({ jobId: of, store, everySteps: 10, keepLast }).save(
      { encodeState: async () => bytesOf(`${of} ${generation} ${step}`) },
      { generation, point: pointOf(step) },
    );
  return { path, store, save };
}

test("what lies here of a job, with the stages of it, the newest history first", async () => {
  const { store, save } = open();
  const older = await save("job-7/stage-0", 1, 60);
  await save("job-7/stage-1", 1, 70);
  const newer = await save("job-7/stage-1", 2, 65); // 70 was of a life that the job has gone back from
  await save("job-71", 1, 10);
  expect(heldCheckpoints(store, "job-7")).toEqual([
    { generation: 2, stage: 1, point: pointOf(65), artefact: newer },
    { generation: 1, stage: 0, point: pointOf(60), artefact: older },
  ]);
  expect(jobsHeld(store)).toEqual(["job-71", "job-7"]);
});

test("of a job without stages; what has no bytes or no generation is left out", async () => {
  const { store, save } = open();
  const artefact = await save("job-7", 3, 60, 3);
  await store.remove(await save("job-7", 3, 70, 3));
  await store.setName("checkpoint/job-7/2", { digest: await store.put(bytesOf("old")), step: 80 });
  expect(heldCheckpoints(store, "job-7")).toEqual([
    { generation: 3, stage: null, point: pointOf(60), artefact },
  ]);
});

test("no more is told than there is room for: the newest", async () => {
  const { store } = open();
  const digest = await store.put(bytesOf("one"));
  for (let step = 1; step <= limits.heldCheckpointsMax + 1; step++)
    await store.setName(`checkpoint/job-7/${step}`, {
      digest,
      step,
      written: { generation: 1, hash: digest },
    });
  const steps = heldCheckpoints(store, "job-7").map(({ point }) => point.step);
  expect([steps.length, steps.at(-1)]).toEqual([limits.heldCheckpointsMax, 2]);
});

test("after a restart the newest history is gone on from, not the highest step", async () => {
  const { store, save } = open();
  for (const step of [10, 20]) await save("job-7", 1, step);
  await save("job-7", 2, 15);
  const restored: string[] = [];
  const restoreState = async (bytes: Uint8Array) => void restored.push(Buffer.from(bytes).toString());
  await new Checkpointer({ jobId: "job-7", store, everySteps: 10, keepLast: 2 }).restore({ restoreState });
  expect(restored).toEqual(["job-7 2 15"]);
});

test("a checkpoint is read from this disk, or another one's; what was fetched does not stay", async () => {
  const { store, save } = open();
  const own = await save("job-7", 1, 10);
  const theirs = bytesOf("theirs");
  const fetchArtefact = async () => void (await store.put(theirs, { listed: false }));
  expect(await readCheckpoint(own, { store, fetchArtefact }, never)).toEqual(bytesOf("job-7 1 10"));
  expect(await readCheckpoint(sha256(theirs), { store, fetchArtefact }, never)).toEqual(theirs);
  expect(store.stat(sha256(theirs))).toBeUndefined();
  expect(store.stat(own)).toBeDefined();
});

test("while nobody in reach has it, that says nothing against whoever asks", async () => {
  const { store } = open();
  const fetchArtefact = async () => {
    throw new RingfoldError("ARTEFACT_MISSING", "no live peer holds it");
  };
  await expect(readCheckpoint(digestOf("c"), { store, fetchArtefact }, never)).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
    data: { missing: digestOf("c") },
  });
});

test("a damaged one is fetched", async () => {
  const { store, path, save } = open();
  const digest = await save("job-7", 1, 10);
  await store.close();
  damageFile(join(path, "data.mdb"), bytesOf("job-7 1 10"));
  const again = open(path).store;
  const fetchArtefact = async () => {
    await again.remove(digest); // as the agent does with a copy that is not what it should be
    await again.put(bytesOf("job-7 1 10"));
  };
  expect(await readCheckpoint(digest, { store: again, fetchArtefact }, never)).toEqual(bytesOf("job-7 1 10"));
});
