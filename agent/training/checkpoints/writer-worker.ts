import { parentPort, workerData } from "node:worker_threads";
import { openArtefactStore } from "../../artefact/store.ts";
import { errorMessage } from "../ring-host/ring-thread-messages.ts";
import { Checkpointer } from "./checkpointer.ts";
import type { CheckpointWriterSetup, FromCheckpointWriter, ToCheckpointWriter } from "./writer-thread.ts";

/** The inside of the thread that writes checkpoints. It is given one at a time. */
const { artefactPath, ...job } = workerData as CheckpointWriterSetup;
let checkpointer: Checkpointer | undefined;

async function write({ state, moment }: ToCheckpointWriter): Promise<FromCheckpointWriter> {
  try {
    checkpointer ??= new Checkpointer({ ...job, store: openArtefactStore(artefactPath) });
    return { digest: await checkpointer.save({ encodeState: async () => state }, moment) };
  } catch (cause) {
    return { error: errorMessage(cause) };
  }
}

parentPort!.on("message", async (message: ToCheckpointWriter) =>
  parentPort!.postMessage(await write(message)),
);
