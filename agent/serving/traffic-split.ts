import { createHash } from "node:crypto";
import { type ErrorCode, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Placement } from "../../protocol/messages/serving.ts";
import type { Clock, Log } from "../../protocol/ports.ts";
import { missingShards, type PlacementTable } from "./placement-table.ts";
import type { Predictor, PredictReply, PredictRequest } from "./predictor.ts";
import type { ServedCounter } from "./served-counter.ts";

export interface TrafficSplitModules {
  readonly predictor: Pick<Predictor, "predict">;
  readonly table: PlacementTable;
  readonly counter: ServedCounter;
  readonly clock: Clock;
  readonly log: Log;
  /** From 0 to below 1, for requests without an id. */
  readonly random: () => number;
}

/** What a caller got wrong, or gave up: no version is better or worse for it. */
const callersFault: ReadonlySet<ErrorCode> = new Set(["REQUEST_INVALID", "PAYLOAD_TOO_LARGE", "CANCELLED"]);

/**
 * Sends each request to the live version of a model or to the candidate that is being rolled out, by weight, and counts how they
 * answer. What the candidate does not answer the live version does, so a bad candidate costs time and no request. A
 * request that names its version gets that one, and is not counted.
 */
export class TrafficSplit {
  readonly #modules: TrafficSplitModules;

  constructor(modules: TrafficSplitModules) {
    this.#modules = modules;
  }

  /** @throws RingfoldError as `Predictor.predict` */
  async predict(request: PredictRequest, signal: AbortSignal): Promise<PredictReply> {
    const { predictor, table, log } = this.#modules;
    const live = table.find(request.name);
    if (request.version !== undefined || !live) return await predictor.predict(request, signal);
    const candidate = table.candidate(request.name);
    const startedAtMs = this.#modules.clock.monotonicMs();
    if (candidate && this.#isFor(candidate, request.id) && missingShards(candidate).length === 0) {
      try {
        // Half of the time, as a replica gets: one that hangs must leave some to the live version.
        return await this.#counted(candidate, request, limits.predictTimeoutMs / 2, signal);
      } catch (cause) {
        const { code, message } = toRingfoldError(cause);
        if (signal.aborted) throw cause;
        log.debug({ model: label(candidate), code, reason: message }, "The live version answers instead");
      }
    }
    const elapsedMs = this.#modules.clock.monotonicMs() - startedAtMs;
    return await this.#counted(live, request, limits.predictTimeoutMs - elapsedMs, signal);
  }

  /** The same id always comes to the same side, and stays with the candidate as its weight grows. */
  #isFor({ deployment, weight = 0 }: Placement, id: string | undefined): boolean {
    const drawn = id === undefined ? this.#modules.random() : placeOf(`${deployment} ${id}`);
    return 100 * drawn < weight;
  }

  async #counted(
    { name, version, deployment }: Placement,
    request: PredictRequest,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<PredictReply> {
    const { predictor, counter, clock } = this.#modules;
    const startedAtMs = clock.monotonicMs();
    try {
      const reply = await predictor.predict({ ...request, name, version, timeoutMs }, signal);
      counter.answered(deployment, clock.monotonicMs() - startedAtMs);
      return reply;
    } catch (cause) {
      const { code } = toRingfoldError(cause);
      if (!callersFault.has(code) && !signal.aborted) counter.failed(deployment, code);
      throw cause;
    }
  }
}

/** Even over 0 to 1. The number of the deployment is part of it: not the same callers try each new version. */
const placeOf = (text: string): number => createHash("sha256").update(text).digest().readUInt32BE() / 2 ** 32;

const label = ({ name, version }: Placement): string => `${name}@${version}`;
