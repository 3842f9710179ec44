import { Worker } from "node:worker_threads";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { type ErrorMessage, receivedError } from "../ring-host/ring-thread-messages.ts";
import type { CheckpointerOptions, Moment } from "./checkpointer.ts";

/** Brings states to the disk, one after the other. */
export interface CheckpointWriter {
  /**
   * Durable when it resolves, with its digest.
   * @param state goes over to the thread, and is gone here
   * @throws RingfoldError STORE_FAILED; INTERNAL when the thread has ended
   */
  write(state: Uint8Array, moment: Moment): Promise<string>;
  close(): Promise<void>;
}

/** What the thread starts with; it opens the store for itself. */
export interface CheckpointWriterSetup extends Omit<CheckpointerOptions, "store"> {
  readonly artefactPath: string;
}

export interface ToCheckpointWriter {
  readonly state: Uint8Array;
  readonly moment: Moment;
}

export type FromCheckpointWriter = { readonly digest: string } | { readonly error: ErrorMessage };

/**
 * A thread that writes checkpoints: hashing a large state, copying it into LMDB and removing the one before take the trainer's
 * thread several times as long as a copy of it does. It starts with the first checkpoint.
 * Cost: 0.1-0.2 s of a core at the first one.
 */
export function checkpointWriter(setup: CheckpointWriterSetup): CheckpointWriter {
  let worker: Worker | undefined;
  return {
    write: (state, moment) => {
      worker ??= startWriter(setup).once("exit", () => {
        worker = undefined; // the next one may find what this one lacked
      });
      return writeBy(worker, state, moment);
    },
    close: async () => void (await worker?.terminate()),
  };
}

function startWriter(setup: CheckpointWriterSetup): Worker {
  const worker = new Worker(new URL("./writer-worker.ts", import.meta.url), { workerData: setup });
  worker.unref(); // it ends with the process, however that ends
  return worker;
}

function writeBy(worker: Worker, state: Uint8Array, moment: Moment): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const onMessage = (answer: FromCheckpointWriter) =>
    "digest" in answer ? resolve(answer.digest) : reject(receivedError(answer.error));
  const onError = (cause: unknown) => reject(toRingfoldError(cause));
  const onExit = () => reject(new RingfoldError("INTERNAL", "the thread that writes checkpoints has ended"));
  worker.once("message", onMessage).once("error", onError).once("exit", onExit);
  const owned = state.byteLength === state.buffer.byteLength ? state : state.slice();
  worker.postMessage({ state: owned, moment } satisfies ToCheckpointWriter, [owned.buffer as ArrayBuffer]);
  return promise.finally(() => {
    worker.off("message", onMessage).off("error", onError).off("exit", onExit);
  });
}
