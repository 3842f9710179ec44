import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { DataPlaneOptions } from "../../network/data-plane/data-plane.ts";

/** What a thread that gives states away starts with. */
export interface StateThreadSetup {
  readonly plane: Pick<DataPlaneOptions, "peerId" | "certificate" | "host" | "transport">;
  readonly logLevel: string;
}

/** To the thread: the state to give away from now on, or nothing more. */
export type ToStateThread =
  | { readonly kind: "offer"; readonly plan: AdmissionPlan; readonly state: Uint8Array }
  | { readonly kind: "withdraw" };

/** A thread that gives large states away, on a data plane of its own. */
export interface StateThread {
  /** Of its data plane. */
  readonly port: number;
  /** @param state goes over to the thread, and is gone here */
  offer(plan: AdmissionPlan, state: Uint8Array): void;
  withdraw(): void;
  close(): Promise<void>;
}

/**
 * The thread that trains sees to its sockets only between two computations: large states are given away by another one.
 * Should it fail later, the process fails with it: a rank that only seems to give its state away would have every
 * healing fail for ever.
 * @throws RingfoldError when the thread cannot start
 * Cost: 0.3-0.5 s of a core, and some 60 MB.
 */
export async function openStateThread(setup: StateThreadSetup): Promise<StateThread> {
  const worker = new Worker(new URL("./state-worker.ts", import.meta.url), { workerData: setup });
  worker.unref(); // it ends with the process, however that ends
  const started = new AbortController();
  const failed = Promise.race([
    once(worker, "error", { signal: started.signal }).then(([cause]) =>
      Promise.reject(toRingfoldError(cause)),
    ),
    once(worker, "exit", { signal: started.signal }).then(() =>
      Promise.reject(new RingfoldError("INTERNAL", "the thread that gives states away has ended")),
    ),
  ]);
  failed.catch(() => undefined);
  const listening = once(worker, "message", { signal: started.signal });
  listening.catch(() => undefined);
  try {
    const [port] = (await Promise.race([listening, failed])) as [number];
    return {
      port,
      offer: (plan, state) => {
        const owned = state.byteLength === state.buffer.byteLength ? state : state.slice();
        const message: ToStateThread = { kind: "offer", plan, state: owned };
        worker.postMessage(message, [owned.buffer as ArrayBuffer]);
      },
      withdraw: () => worker.postMessage({ kind: "withdraw" } satisfies ToStateThread),
      close: async () => void (await worker.terminate()),
    };
  } catch (cause) {
    await worker.terminate();
    throw cause;
  } finally {
    started.abort();
  }
}
