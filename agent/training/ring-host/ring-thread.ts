import { Worker } from "node:worker_threads";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { RingPort } from "../../ring/port.ts";
import { Ring } from "../../ring/ring.ts";
import type { RingHost } from "./ring-host.ts";
import {
  errorMessage,
  type FromRingThread,
  type RingFigures,
  type RingThreadSetup,
  receivedError,
  type ToRingThread,
} from "./ring-thread-messages.ts";
import { type RingThreadCalls, ThreadedRing } from "./threaded-ring.ts";

interface PendingCall {
  readonly settle: (outcome: { readonly value: unknown } | { readonly error: RingfoldError }) => void;
  readonly onFigures: ((figures: RingFigures) => void) | undefined;
}

/**
 * A ring host in a thread of its own: the engine blocks the thread that trains, and the ring goes on meanwhile. Vectors lie
 * in shared memory, so nothing is copied between the two.
 *
 * @throws RingfoldError when the thread cannot start
 * Cost: 0.3-0.5 s of a core, and some 60 MB.
 */
export async function openRingThread(
  setup: RingThreadSetup,
  { onDeath }: { readonly onDeath: (error: RingfoldError) => void },
): Promise<RingHost> {
  const thread = new RingThread(setup, onDeath);
  await thread.listening;
  return thread;
}

class RingThread implements RingHost, RingThreadCalls {
  readonly listening: Promise<void>;
  readonly #peerId: string;
  readonly #worker: Worker;
  readonly #pending = new Map<number, PendingCall>();
  #nextCall = 0;
  #port = 0;
  #ended: RingfoldError | undefined;

  /** @param onDeath once, if the thread ends by itself after it has started */
  constructor(setup: RingThreadSetup, onDeath: (error: RingfoldError) => void) {
    this.#peerId = setup.plane.peerId;
    this.#worker = new Worker(new URL("./ring-worker.ts", import.meta.url), { workerData: setup });
    this.#worker.unref(); // it ends with the process, however that ends
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.listening = promise;
    this.#worker.on("message", (message: FromRingThread) => {
      if (message.kind !== "listening") return this.#answered(message);
      this.#port = message.port;
      resolve();
    });
    const end = (cause: RingfoldError) => {
      if (this.#ended) return;
      this.#ended = cause;
      for (const { settle } of [...this.#pending.values()]) settle({ error: cause });
      if (this.#port === 0) reject(cause);
      else onDeath(cause);
    };
    this.#worker.on("error", (cause) => end(this.#port === 0 ? toRingfoldError(cause) : died(cause)));
    this.#worker.on("exit", (code) => end(died(`exit code ${code}`)));
  }

  get port(): number {
    return this.#port;
  }

  async link(plan: GenerationPlan, memory: RingMemory, signal: AbortSignal): Promise<RingPort> {
    const broken = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    let id = 0;
    await this.call<void>((call) => {
      id = call;
      return { kind: "link", call, plan, memory: memory.shared, broken };
    }, signal);
    const worldSize = plan.ranks.length;
    const rank = plan.ranks.findIndex(({ peerId }) => peerId === this.#peerId);
    if (worldSize === 1) return new Ring({ rank, worldSize }); // it has nothing to do in any thread
    const peerIds = plan.ranks.map(({ peerId }) => peerId);
    return new ThreadedRing({ thread: this, id, rank, worldSize, memory, broken, peerIds });
  }

  offer(plan: AdmissionPlan, state: Uint8Array): void {
    const owned = state.byteLength === state.buffer.byteLength ? state : state.slice();
    this.#worker.postMessage({ kind: "offer", plan, state: owned } satisfies ToRingThread, [
      owned.buffer as ArrayBuffer,
    ]);
  }

  withdraw(): void {
    this.tell({ kind: "withdraw" });
  }

  fetchStart(plan: GenerationPlan, signal: AbortSignal): Promise<Uint8Array> {
    return this.call((call) => ({ kind: "fetch-start", call, plan }), signal);
  }

  async close(): Promise<void> {
    this.#ended ??= new RingfoldError("CANCELLED", "the trainer closes");
    for (const { settle } of [...this.#pending.values()]) settle({ error: this.#ended });
    await this.#worker.terminate();
  }

  tell(message: ToRingThread): void {
    this.#worker.postMessage(message);
  }

  call<Value>(
    message: (call: number) => ToRingThread,
    signal: AbortSignal,
    onFigures?: (figures: RingFigures) => void,
  ): Promise<Value> {
    if (this.#ended) return Promise.reject(this.#ended);
    const call = ++this.#nextCall;
    return new Promise((resolve, reject) => {
      const onAbort = () =>
        this.tell({ kind: "cancel", call, error: errorMessage(toRingfoldError(signal.reason, "CANCELLED")) });
      this.#pending.set(call, {
        onFigures,
        settle: (outcome) => {
          this.#pending.delete(call);
          signal.removeEventListener("abort", onAbort);
          if ("error" in outcome) reject(outcome.error);
          else resolve(outcome.value as Value);
        },
      });
      this.tell(message(call));
      signal.addEventListener("abort", onAbort);
      if (signal.aborted) onAbort();
    });
  }

  #answered(message: Exclude<FromRingThread, { readonly kind: "listening" }>): void {
    const pending = this.#pending.get(message.call);
    if (message.kind === "error") return pending?.settle({ error: receivedError(message.error) });
    if (message.ring) pending?.onFigures?.(message.ring);
    pending?.settle({ value: message.value });
  }
}

/** Without it this rank can train no more: whoever has the process ends it, and the agent starts another. */
const died = (cause: unknown): RingfoldError =>
  new RingfoldError(
    "TRAINER_DIED",
    `the thread of the ring has ended: ${toRingfoldError(cause).message}`,
    {},
    { cause },
  );
