import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import type { AdmissionPlan } from "../../network/admission.ts";
import type { DataPlaneOptions } from "../../network/data-plane.ts";

/** What a thread that gives a state away starts with. */
export interface StateThreadSetup {
  readonly plane: Pick<DataPlaneOptions, "peerId" | "certificate" | "host" | "transport">;
  readonly plan: AdmissionPlan;
  readonly state: Uint8Array;
  readonly logLevel: string;
}

/** A state that is given away by a thread of its own, on a data plane of its own. */
export interface StateThread {
  /** Of its data plane. @throws RingfoldError INTERNAL when the thread could not start */
  readonly port: Promise<number>;
  close(): void;
}

/**
 * The thread that trains sees to its sockets only between two computations: it gave away 60 MB a second of what the data
 * plane can, and every block that it encrypted was taken from its step.
 *
 * @param setup `state` goes over to the thread, and is gone here
 * Cost: 0.2 s of a core until it listens.
 */
export function openStateThread(setup: StateThreadSetup): StateThread {
  const { state } = setup;
  const owned = state.byteLength === state.buffer.byteLength ? state : state.slice();
  const worker = new Worker(new URL("./state-worker.ts", import.meta.url), {
    workerData: { ...setup, state: owned },
    transferList: [owned.buffer as ArrayBuffer],
  });
  worker.unref(); // it ends with the process, however that ends
  const failed = new Promise<never>((_, reject) => {
    worker.once("error", (cause) => reject(toRingfoldError(cause)));
    worker.once("exit", () => reject(new RingfoldError("INTERNAL", "the thread of a state has ended")));
  });
  const port = Promise.race([once(worker, "message").then(([message]) => message as number), failed]);
  for (const promise of [failed, port]) promise.catch(() => undefined); // whoever asks for the port hears of it
  return { port, close: () => void worker.terminate() };
}
