import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openArtefactStore } from "../../../agent/artefact/store.ts";
import { Checkpointer, type Moment } from "../../../agent/training/checkpoints/checkpointer.ts";
import { SavingBeside } from "../../../agent/training/checkpoints/saving.ts";
import { checkpointWriter } from "../../../agent/training/checkpoints/writer-thread.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

const moment = (step: number): Moment => ({ generation: 1, point: { step, hash: `${step}` } });
/** What trains: its state at the moment of asking is a byte. */
const trainee = { byte: 0, encodeState: async () => Uint8Array.of(trainee.byte) };

/** A disk that takes what it is given when it is told to. */
function slowDisk() {
  const writes: { state: Uint8Array; end: PromiseWithResolvers<string> }[] = [];
  const saving = new SavingBeside(
    { isDue: () => true },
    {
      write: (state) => {
        const end = Promise.withResolvers<string>();
        writes.push({ state, end });
        return end.promise;
      },
      close: async () => {},
    },
  );
  const durable: string[] = [];
  const save = (step: number) => {
    trainee.byte = step;
    return saving.save(trainee, moment(step), (digest) => void durable.push(digest));
  };
  return { writes, saving, durable, save };
}

test("training goes on with a copy taken, and hears of it once it is durable", async () => {
  const { writes, saving, durable, save } = slowDisk();
  await save(1);
  trainee.byte = 9; // the next step
  expect([...writes[0]!.state]).toEqual([1]);
  expect(durable).toEqual([]);
  writes[0]!.end.resolve("one");
  await saving.settle();
  expect(durable).toEqual(["one"]);
});

test("one at a time: the next waits for the one before, and takes the state after that", async () => {
  const { writes, durable, save, saving } = slowDisk();
  await save(1);
  const second = save(2);
  expect(writes).toHaveLength(1);
  writes[0]!.end.resolve("one");
  await second;
  expect(durable).toEqual(["one"]);
  expect(writes).toHaveLength(2);
  writes[1]!.end.resolve("two");
  await saving.close();
  expect(durable).toEqual(["one", "two"]);
});

test("what fails is told to whoever comes next, once, and nobody hears that it is durable", async () => {
  const { writes, durable, save, saving } = slowDisk();
  await save(1);
  writes[0]!.end.reject(new RingfoldError("STORE_FAILED", "the disk is full"));
  await expect(save(2)).rejects.toMatchObject({ code: "STORE_FAILED", message: "the disk is full" });
  expect(writes).toHaveLength(1);
  await save(3);
  writes[1]!.end.reject(new RingfoldError("STORE_FAILED", "the disk is full"));
  await expect(saving.settle()).rejects.toMatchObject({ code: "STORE_FAILED" });
  await saving.settle();
  expect(durable).toEqual([]);
});

function realThread(artefactPath: string) {
  const writer = checkpointWriter({ artefactPath, jobId: "job-1", everySteps: 1, keepLast: 2 });
  onTestFinished(() => writer.close());
  return writer;
}

test("a thread writes them where they are found again: the last ones, and no more", async () => {
  const path = join(temporaryFolder(), "artefacts");
  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  const writer = realThread(path);
  const digests: string[] = [];
  // A view into something larger stays whole here.
  const whole = new Uint8Array(64);
  for (const step of [1, 2, 3])
    digests.push(await writer.write(whole.fill(step).subarray(8, 24), moment(step)));
  expect(whole.length).toBe(64);
  expect(new Set(store.list())).toEqual(new Set(digests.slice(1)));
  let restored = new Uint8Array();
  const restoreState = async (bytes: Uint8Array) => {
    restored = Uint8Array.from(bytes);
  };
  const checkpointer = new Checkpointer({ jobId: "job-1", store, everySteps: 1, keepLast: 2 });
  expect(await checkpointer.restore({ restoreState })).toBe(true);
  expect([...restored]).toEqual(new Array(16).fill(3));
});

test("a store that cannot be opened is named, then and at the next write", async () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "no folder can be in here");
  const writer = realThread(join(file, "artefacts"));
  for (const step of [1, 2])
    await expect(writer.write(Uint8Array.of(1), moment(step))).rejects.toMatchObject({
      code: "STORE_FAILED",
    });
});
