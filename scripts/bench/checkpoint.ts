import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import { Checkpointer } from "../../agent/training/checkpointer.ts";
import { encodeState, trainingPoint } from "../../agent/training/training-state.ts";
import { listOf, wholeNumber } from "./bench-flags.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * How long a step waits for its checkpoint: states of Adam (parameters and two arrays) are hashed, encoded and written to a real
 * store on this disk, each in the place of the one before. Medians, in milliseconds.
 */
interface Row {
  readonly megabytes: number;
  /** SHA-256 of the parameters, which names the state. */
  readonly pointMs: number;
  readonly encodeMs: number;
  /** Until it is durable, and the one before is gone. */
  readonly saveMs: number;
  /** Of that, what no other work of the thread could have used. */
  readonly blockedMs: number;
}

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
    const row = await measure(wholeNumber("--megabytes", word, 1, 4_000), rounds);
    if (options.json) process.stdout.write(`${JSON.stringify(row)}\n`);
    else process.stdout.write(`${lineOf(row)}\n`);
  }
});

async function measure(megabytes: number, rounds: number): Promise<Row> {
  const elementCount = Math.floor((megabytes * 1e6) / 12);
  const array = () => Float32Array.from({ length: elementCount }, (_, i) => Math.sin(i));
  const slots = { firstMoment: array(), secondMoment: array() };
  const state = { step: 0, parameters: array(), slots, scalars: {} };
  const layout = [{ name: "kernel", shape: [elementCount], offset: 0, elementCount }];
  const folder = await mkdtemp(join(tmpdir(), "ringfold-checkpoint-"));
  const store = openArtefactStore(folder);
  try {
    const checkpointer = new Checkpointer({ jobId: "job-1", store, everySteps: 1, keepLast: 1 });
    const samples: Omit<Row, "megabytes">[] = [];
    for (let round = 0; round < rounds; round++) {
      state.step++;
      state.parameters[0] = state.step; // another state, and so another artefact
      let point = trainingPoint(state);
      const pointMs = timed(() => {
        point = trainingPoint(state);
      });
      let bytes: Uint8Array = new Uint8Array(0);
      const encodeMs = timed(() => {
        bytes = encodeState(state, layout);
      });
      const saving = checkpointer.save({ encodeState: async () => bytes }, { generation: 1, point });
      samples.push({ pointMs, encodeMs, ...(await watched(saving)) });
    }
    const medianOf = (key: keyof (typeof samples)[number]) =>
      samples.map((sample) => sample[key]).toSorted((a, b) => a - b)[samples.length >> 1]!;
    return {
      megabytes,
      ...{ pointMs: medianOf("pointMs"), encodeMs: medianOf("encodeMs") },
      ...{ saveMs: medianOf("saveMs"), blockedMs: medianOf("blockedMs") },
    };
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function timed(work: () => void): number {
  const startedAtMs = performance.now();
  work();
  return performance.now() - startedAtMs;
}

/** Turns of the event loop beside it tell when the thread was not free. */
async function watched(saving: Promise<unknown>): Promise<{ saveMs: number; blockedMs: number }> {
  const startedAtMs = performance.now();
  let isSaving = true;
  const end = saving.finally(() => {
    isSaving = false;
  });
  let blockedMs = 0;
  while (isSaving) {
    const turnAtMs = performance.now();
    await nextTurn();
    const turnMs = performance.now() - turnAtMs;
    if (turnMs > 1) blockedMs += turnMs;
  }
  await end;
  return { saveMs: performance.now() - startedAtMs, blockedMs };
}

function lineOf({ megabytes, pointMs, encodeMs, saveMs, blockedMs }: Row): string {
  const told = (ms: number) => `${ms.toFixed(0)} ms`;
  const save = `save ${told(saveMs)}, of which the thread is busy for ${told(blockedMs)}`;
  return `${megabytes} MB: hash ${told(pointMs)}, encode ${told(encodeMs)}, ${save}`;
}
