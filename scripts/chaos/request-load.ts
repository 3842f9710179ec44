import { setTimeout as delay } from "node:timers/promises";
import { toRingfoldError } from "../../protocol/errors.ts";
import { type InferenceTensor, infer } from "../commands/inference/open-inference.ts";

/** Between two requests of one sender. */
const pauseMs = 50;

/** Predictions without end, by one sender at each gateway; a sender has one request under way. */
export class RequestLoad {
  sent = 0;
  /** By the code of what went wrong. */
  readonly failed = new Map<string, number>();
  readonly #ending = new AbortController();
  readonly #ended: Promise<unknown>;

  constructor(options: {
    readonly gatewayUrls: readonly string[];
    readonly name: string;
    readonly input: InferenceTensor;
    readonly signal: AbortSignal;
  }) {
    const signal = AbortSignal.any([options.signal, this.#ending.signal]);
    this.#ended = Promise.all(
      options.gatewayUrls.map((gatewayUrl) => this.#send({ ...options, gatewayUrl }, signal)),
    );
  }

  get failedCount(): number {
    return [...this.failed.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Those that are under way are not counted. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#ended;
  }

  async #send(
    { gatewayUrl, name, input }: { gatewayUrl: string; name: string; input: InferenceTensor },
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      try {
        await infer({ gatewayUrl, name }, input, signal);
        this.sent++;
      } catch (cause) {
        if (signal.aborted) return;
        this.sent++;
        const { code } = toRingfoldError(cause);
        this.failed.set(code, (this.failed.get(code) ?? 0) + 1);
      }
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
