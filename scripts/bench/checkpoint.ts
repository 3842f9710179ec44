import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import { Checkpointer } from "../../agent/training/checkpoints/checkpointer.ts";
import { type CheckpointSaving, savingBy } from "../../agent/training/checkpoints/saving.ts";
import { checkpointWriter } from "../../agent/training/checkpoints/writer-thread.ts";
import type { Trainee } from "../../agent/training/trainee.ts";
import { encodeState, trainingPoint } from "../../agent/training/training-state.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import { listOf, wholeNumber } from "./bench-flags.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * How long a step waits for its checkpoint: states of Adam (parameters and two arrays) are hashed, encoded and written to a real
 * store on this disk, each in the place of the one before: by the thread that trains, and by one beside it, in turn. Medians, in
 * milliseconds.
 */
interface Row {
  readonly megabytes: number;
  readonly way: Way;
  /** SHA-256 of the parameters, which names the state. */
  readonly pointMs: number;
  /** Until training may go on. */
  readonly waitMs: number;
  /** Until it is durable, and the one before is gone. */
  readonly durableMs: number;
  /** Of that, what no other work of the thread could have used. */
  readonly blockedMs: number;
}
type Way = "in turn" | "beside";

interface Options {
  readonly megabytes: string;
  readonly rounds: string;
}

await runBench(async () => {
  const options = parseBenchOptions<Options>("bench:checkpoint", (command) =>
    command
      .option("--megabytes <list>", "of the states", "80,240")
      .option("--rounds <n>", "of which the median is told", "7"),
  );
  if (!options) return;
  const rounds = wholeNumber("--rounds", options.rounds, 1, 100);
  for (const word of listOf(options.megabytes)) {
    for (const row of await measure(wholeNumber("--megabytes", word, 1, 4_000), rounds)) {
      if (options.json) process.stdout.write(`${JSON.stringify(row)}\n`);
      else process.stdout.write(`${lineOf(row)}\n`);
    }
  }
});

async function measure(megabytes: number, rounds: number): Promise<Row[]> {
  const elementCount = Math.floor((megabytes * 1e6) / 12);
  const array = () => Float32Array.from({ length: elementCount }, (_, i) => Math.sin(i));
  const slots = { firstMoment: array(), secondMoment: array() };
  const state = { step: 0, parameters: array(), slots, scalars: {} };
  const layout = [{ name: "kernel", shape: [elementCount], offset: 0, elementCount }];
  const folder = await mkdtemp(join(tmpdir(), "ringfold-checkpoint-"));
  const store = openArtefactStore(folder);
  const job = (jobId: string) => ({ jobId, everySteps: 1, keepLast: 1 });
  const ways: Record<Way, CheckpointSaving> = {
    "in turn": savingBy(new Checkpointer({ ...job("job-1"), store }), undefined),
    beside: savingBy(
      new Checkpointer({ ...job("job-2"), store }),
      checkpointWriter({ ...job("job-2"), artefactPath: folder }),
    ),
  };
  try {
    const samples: Row[] = [];
    const trainee = { encodeState: async () => encodeState(state, layout) };
    for (let round = 0; round <= rounds; round++) {
      for (const way of ["in turn", "beside"] as const) {
        state.parameters[0] = ++state.step; // another state, and so another artefact
        let point = trainingPoint(state);
        const pointMs = timed(() => {
          point = trainingPoint(state);
        });
        const times = await watched(ways[way], trainee, point);
        if (round > 0) samples.push({ megabytes, way, pointMs, ...times }); // the first one also starts a thread
      }
    }
    return (["in turn", "beside"] as const).map((way) => medianOf(samples.filter((row) => row.way === way)));
  } finally {
    await Promise.all(Object.values(ways).map((way) => way.close()));
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function medianOf(samples: readonly Row[]): Row {
  const median = (of: (row: Row) => number) =>
    samples.map(of).toSorted((a, b) => a - b)[samples.length >> 1]!;
  return {
    ...samples[0]!,
    pointMs: median(({ pointMs }) => pointMs),
    waitMs: median(({ waitMs }) => waitMs),
    durableMs: median(({ durableMs }) => durableMs),
    blockedMs: median(({ blockedMs }) => blockedMs),
  };
}

function timed(work: () => void): number {
  const startedAtMs = performance.now();
  work();
  return performance.now() - startedAtMs;
}

/** Turns of the event loop beside it tell when the thread was not free. */
async function watched(
  saving: CheckpointSaving,
  trainee: Pick<Trainee, "encodeState">,
  point: TrainingPoint,
): Promise<Pick<Row, "waitMs" | "durableMs" | "blockedMs">> {
  const startedAtMs = performance.now();
  let waitMs = 0;
  let isDurable = false;
  const end = saving
    .save(trainee, { generation: 1, point }, () => {
      isDurable = true;
    })
    .then(() => {
      waitMs = performance.now() - startedAtMs;
    });
  let blockedMs = 0;
  while (!isDurable) {
    const turnAtMs = performance.now();
    await nextTurn();
    const turnMs = performance.now() - turnAtMs;
    if (turnMs > 1) blockedMs += turnMs;
  }
  const durableMs = performance.now() - startedAtMs;
  await end;
  await saving.settle();
  return { waitMs, durableMs, blockedMs };
}

function lineOf({ megabytes, way, pointMs, waitMs, durableMs, blockedMs }: Row): string {
  const told = (ms: number) => `${ms.toFixed(0)} ms`;
  const wait = `training waits ${told(waitMs)}, durable after ${told(durableMs)}`;
  return `${megabytes} MB, ${way}: hash ${told(pointMs)}, ${wait}, thread busy ${told(blockedMs)}`;
}
