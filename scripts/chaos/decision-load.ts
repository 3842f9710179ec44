import { setTimeout as delay } from "node:timers/promises";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { ApiClient } from "../commands/api-client.ts";

/** Between two decisions, and between two attempts at one: the resolution of the leaderless time. */
const pauseMs = 50;
/** A coordinator that is started again decides within seconds, also on a busy machine. */
const silenceMsMax = 60_000;

interface Acknowledged {
  readonly alias: string;
  /** By `performance.now()`. */
  readonly atMs: number;
}

/**
 * Makes the coordinator decide without end: a new alias each time, asked for until it is acknowledged. One that was there
 * already when it was asked for again had been decided by a coordinator that died before it could say so.
 */
export class DecisionLoad {
  readonly acknowledged: Acknowledged[] = [];
  readonly #api: ApiClient;
  readonly #name: string;
  readonly #ending = new AbortController();
  readonly #ended: Promise<void>;
  #waiters: (() => void)[] = [];

  constructor({ api, name, signal }: { api: ApiClient; name: string; signal: AbortSignal }) {
    this.#api = api;
    this.#name = name;
    this.#ended = this.#run(AbortSignal.any([signal, this.#ending.signal])).finally(() => this.#tellAll());
    this.#ended.catch(() => undefined); // heard of by `close`
  }

  /**
   * Resolves with the next acknowledgement, or when there will be none.
   * @throws RingfoldError COORDINATOR_UNREACHABLE when nothing was acknowledged for a minute; what was refused for good
   */
  async next(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push(resolve);
    const timer = setTimeout(() => {
      const message = `nothing was decided within ${silenceMsMax / 1_000} s`;
      reject(new RingfoldError("COORDINATOR_UNREACHABLE", message));
    }, silenceMsMax);
    // What the coordinator has refused for good is no silence.
    const refused = this.#ended.then(() => promise);
    await Promise.race([promise, refused]).finally(() => clearTimeout(timer));
  }

  /** @throws RingfoldError what the coordinator has refused for good */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#ended;
  }

  /** What was acknowledged and is not there, and what was decided more than once. */
  async verdict(): Promise<{ readonly lost: number; readonly doubled: number }> {
    const { aliases } = await this.#api.version(this.#name, 1);
    const present = new Set(aliases);
    const counts = new Map<string, number>();
    for (const { event } of await this.#api.audit({ sinceMs: 0 })) {
      if (event.kind === "alias-moved" && event.name === this.#name)
        counts.set(event.alias, (counts.get(event.alias) ?? 0) + 1);
    }
    return {
      lost: this.acknowledged.filter(({ alias }) => !present.has(alias) || !counts.has(alias)).length,
      doubled: [...counts.values()].filter((count) => count > 1).length,
    };
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (let number = 1; !signal.aborted; number++) {
      const alias = `chaos-${number}`;
      if (!(await this.#decide(alias, signal))) return;
      this.acknowledged.push({ alias, atMs: performance.now() });
      this.#tellAll();
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #tellAll(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  /** Whether it was acknowledged before the end. */
  async #decide(alias: string, signal: AbortSignal): Promise<boolean> {
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.#api.moveAlias(this.#name, alias, { version: 1, from: null });
        return true;
      } catch (cause) {
        const { code, rule } = toRingfoldError(cause);
        if (code === "CONFLICT" && attempt > 1) return true;
        if (!rule.retryable) throw cause;
      }
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
    return false;
  }
}
