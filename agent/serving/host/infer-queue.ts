import { limits } from "../../../protocol/limits.ts";
import type { WireTensor } from "../../../protocol/messages/serving.ts";
import type { Clock } from "../../../protocol/ports.ts";
import { openDeadline, untilAborted } from "../../deadline.ts";
import { Admission } from "../admission.ts";
import type { ShardChild } from "./shard-child.ts";
import type { InferResult } from "./shard-host-messages.ts";

/** One command computing and one waiting in the pipe: the process never idles, and the rest can still be cancelled. */
const commandWindow = 2;
/** What waiting inputs may hold: sixteen of the largest tensors. */
const pendingBytesMax = 16 * limits.tensorBytes;
/** Twice the time after which no caller waits any more. */
const stallMs = 2 * limits.predictTimeoutMs;

interface InferJob {
  readonly key: string;
  readonly input: WireTensor;
  readonly answer: PromiseWithResolvers<InferResult>;
}

/** Inferences that wait for the shard host process, in order of arrival. */
export class InferQueue {
  readonly #clock: Clock;
  readonly #admission = new Admission({
    what: "predictions",
    countMax: limits.pendingPredictMax,
    bytesMax: pendingBytesMax,
  });
  #jobs: InferJob[] = [];
  #inFlight = 0;
  #child: ShardChild | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws RingfoldError OVERLOADED | ENGINE_UNAVAILABLE | REQUEST_TIMEOUT | CANCELLED, or the process's own */
  async ask(key: string, input: WireTensor, signal: AbortSignal): Promise<InferResult> {
    const leave = this.#admission.enter(input.data.byteLength);
    const deadline = openDeadline(
      { timeoutMs: limits.predictTimeoutMs, what: `shard ${key}`, parent: signal },
      this.#clock,
    );
    const job: InferJob = { key, input, answer: Promise.withResolvers() };
    this.#jobs.push(job);
    this.#dispatch();
    try {
      return await untilAborted(job.answer.promise, deadline.signal);
    } finally {
      deadline.release();
      leave();
      if (deadline.signal.aborted) this.#jobs = this.#jobs.filter((other) => other !== job);
    }
  }

  /** Names the process that answers from now on; null holds everything back. */
  serveBy(child: ShardChild | null): void {
    this.#child = child;
    this.#dispatch();
  }

  /** Ends what has not been sent; what has been is answered, or fails with its process. */
  fail(error: Error): void {
    for (const job of this.#jobs.splice(0)) job.answer.reject(error);
  }

  #dispatch(): void {
    while (this.#child !== null && this.#inFlight < commandWindow) {
      const job = this.#jobs.shift();
      if (job === undefined) return;
      void this.#send(this.#child, job);
    }
  }

  /** Never throws. */
  async #send(child: ShardChild, job: InferJob): Promise<void> {
    this.#inFlight += 1;
    try {
      const result = await child.call({ kind: "infer", key: job.key, input: job.input }, stallMs);
      if (result !== null) job.answer.resolve(result);
    } catch (cause) {
      job.answer.reject(cause);
    } finally {
      this.#inFlight -= 1;
      this.#dispatch();
    }
  }
}
