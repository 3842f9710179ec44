import { RingfoldError } from "../../../protocol/errors.ts";
import type { EngineName } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { VersionManifest } from "../../../protocol/messages/model.ts";
import type { WireTensor } from "../../../protocol/messages/serving.ts";
import { type Clock, type Log, systemClock } from "../../../protocol/ports.ts";
import { openDeadline, untilAborted } from "../../deadline.ts";
import { type ShardId, shardKey } from "../shard-key.ts";
import { InferQueue } from "./infer-queue.ts";
import { ShardChild } from "./shard-child.ts";
import type { InferResult } from "./shard-host-messages.ts";

const restartDelayMs = { first: 250, most: 8_000 } as const;
/** A process that dies this often in a row dies of what it is asked to load. */
const restartsMax = 5;
/** A life this long starts the count again. */
const restartForgiveMs = 60_000;

export interface ShardToLoad extends ShardId {
  readonly manifest: VersionManifest;
  readonly fromLayer: number;
  readonly toLayer: number;
  /** safetensors of the whole version; kept, without a copy, to load again after a crash. */
  readonly weights: Uint8Array;
}

interface WantedShard {
  readonly shard: ShardToLoad;
  loaded: boolean;
  /** Someone was told that it answers, so someone must be told when it is given up. */
  announced: boolean;
  readonly firstLoad: PromiseWithResolvers<void>;
}

export interface ShardHostOptions {
  readonly engine: EngineName;
}
export interface ShardHostModules {
  readonly log: Log;
  readonly clock?: Clock;
}

/**
 * The shards of this agent, in one child process, so that TF.js never stalls the agent or takes it down. The process
 * starts with the first shard; after a crash it starts again and loads the wanted shards.
 */
export class ShardHost {
  readonly #engine: EngineName;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #wanted = new Map<string, WantedShard>();
  readonly #lifetime = new AbortController();
  readonly #queue: InferQueue;
  readonly #lostListeners: ((key: string, error: RingfoldError) => void)[] = [];
  #child: ShardChild | null = null;
  #cancelRestart: (() => void) | null = null;
  #deathsInARow = 0;
  #loading = 0;
  /** Loads take turns: each message carries all weights of a version. */
  #loadTurn: Promise<void> = Promise.resolve();

  constructor(options: ShardHostOptions, modules: ShardHostModules) {
    this.#engine = options.engine;
    this.#log = modules.log;
    this.#clock = modules.clock ?? systemClock;
    this.#queue = new InferQueue(this.#clock);
  }

  /**
   * Resolves when the shard answers. Loading the same layers again is free; other layers under the same key replace them.
   * A crash on the way is not seen: the load goes on in the next process.
   * @throws RingfoldError ARTEFACT_CORRUPT | ENGINE_UNAVAILABLE | REQUEST_TIMEOUT | CANCELLED
   */
  async load(shard: ShardToLoad, signal: AbortSignal): Promise<void> {
    if (this.#lifetime.signal.aborted) throw closedError();
    const key = shardKey(shard);
    const held = this.#wanted.get(key);
    if (held !== undefined && !sameLayers(held.shard, shard)) await this.unload(key);
    const wanted = this.#wanted.get(key) ?? this.#want(key, shard);
    const deadline = openDeadline(
      { timeoutMs: limits.prepareTimeoutMs, what: `load of ${key}`, parent: signal },
      this.#clock,
    );
    try {
      await untilAborted(wanted.firstLoad.promise, deadline.signal);
    } catch (cause) {
      // Someone may have asked for other layers under this key in the meantime.
      if (deadline.signal.aborted && this.#wanted.get(key) === wanted) await this.unload(key);
      throw cause;
    } finally {
      deadline.release();
    }
  }

  /** Idempotent. Requests that wait for the shard are answered NOT_FOUND. */
  async unload(key: string): Promise<void> {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    this.#wanted.delete(key);
    wanted.firstLoad.reject(new RingfoldError("CANCELLED", `shard ${key} was unloaded`));
    // It may wait behind a load. A process that dies meanwhile has unloaded it as well.
    await this.#child?.call({ kind: "unload", key }, limits.prepareTimeoutMs).catch(() => undefined);
  }

  /**
   * Runs one shard. Requests wait in order; at most `limits.pendingPredictMax` of them.
   * @throws RingfoldError NOT_FOUND | OVERLOADED | ENGINE_UNAVAILABLE | REQUEST_TIMEOUT | CANCELLED
   */
  async infer(key: string, input: WireTensor, signal: AbortSignal): Promise<InferResult> {
    if (!this.has(key)) throw new RingfoldError("NOT_FOUND", `shard ${key} is not loaded here`, { key });
    return await this.#queue.ask(key, input, signal);
  }

  /** True when the shard is loaded and would answer now. */
  has(key: string): boolean {
    return this.#wanted.get(key)?.loaded === true;
  }

  loaded(): string[] {
    return [...this.#wanted].filter(([, { loaded }]) => loaded).map(([key]) => key);
  }

  /** Of the process that runs now; null between lives and before the first shard. */
  pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Hears of each shard that was loaded once and is given up: it is not tried again until someone loads it anew. */
  onLost(listener: (key: string, error: RingfoldError) => void): void {
    this.#lostListeners.push(listener);
  }

  /** Ends the process; whoever waits gets CANCELLED. */
  async close(): Promise<void> {
    this.#lifetime.abort();
    this.#cancelRestart?.();
    this.#cancelRestart = null;
    this.#queue.fail(closedError());
    for (const { firstLoad } of this.#wanted.values()) firstLoad.reject(closedError());
    this.#wanted.clear();
    await this.#child?.close();
  }

  #want(key: string, shard: ShardToLoad): WantedShard {
    const wanted: WantedShard = {
      shard,
      loaded: false,
      announced: false,
      firstLoad: Promise.withResolvers(),
    };
    // The loader may have left by the time that it fails.
    wanted.firstLoad.promise.catch(() => undefined);
    this.#wanted.set(key, wanted);
    if (this.#child === null && this.#cancelRestart === null) void this.#live();
    else if (this.#child !== null) this.#loadInto(this.#child, key, wanted);
    return wanted;
  }

  /** One life of the process, from fork to exit. */
  async #live(): Promise<void> {
    const startedAtMs = this.#clock.monotonicMs();
    const child = new ShardChild(this.#engine, this.#clock);
    this.#child = child;
    child.opened.then(
      ({ engine, reason }) => this.#log.info({ pid: child.pid, engine, reason }, "Shard host started"),
      () => undefined,
    );
    for (const [key, wanted] of this.#wanted) this.#loadInto(child, key, wanted);
    const error = await child.ended;
    this.#child = null;
    this.#feed();
    if (this.#lifetime.signal.aborted) return;
    if (this.#clock.monotonicMs() - startedAtMs > restartForgiveMs) this.#deathsInARow = 0;
    this.#deathsInARow += 1;
    for (const wanted of this.#wanted.values()) wanted.loaded = false;
    this.#queue.fail(error);
    if (this.#wanted.size === 0) this.#deathsInARow = 0;
    else if (this.#deathsInARow > restartsMax) this.#giveUp(error);
    else this.#restartLater(error);
  }

  #restartLater(error: RingfoldError): void {
    const delayMs = Math.min(restartDelayMs.first * 2 ** (this.#deathsInARow - 1), restartDelayMs.most);
    this.#log.warn(
      { delayMs, deathsInARow: this.#deathsInARow, reason: error.message },
      "Shard host restarts",
    );
    this.#cancelRestart = this.#clock.after(delayMs, () => {
      this.#cancelRestart = null;
      void this.#live();
    });
  }

  #giveUp(error: RingfoldError): void {
    this.#log.error({ deathsInARow: this.#deathsInARow, reason: error.message }, "Shard host given up");
    this.#deathsInARow = 0;
    const lost = [...this.#wanted];
    this.#wanted.clear();
    for (const [key, wanted] of lost) this.#announceLoss(key, wanted, error);
  }

  #announceLoss(key: string, wanted: WantedShard, error: RingfoldError): void {
    wanted.firstLoad.reject(error);
    if (wanted.announced) for (const listener of this.#lostListeners) listener(key, error);
  }

  #loadInto(child: ShardChild, key: string, wanted: WantedShard): void {
    this.#loading += 1;
    this.#feed();
    this.#loadTurn = this.#loadTurn
      .then(() => this.#loadNow(child, key, wanted))
      .finally(() => {
        this.#loading -= 1;
        this.#feed();
      });
  }

  /** Never throws. */
  async #loadNow(child: ShardChild, key: string, wanted: WantedShard): Promise<void> {
    const { manifest, fromLayer, toLayer, weights } = wanted.shard;
    try {
      await child.opened;
      if (this.#wanted.get(key) !== wanted) return;
      await child.call(
        { kind: "load", key, model: manifest.model, fromLayer, toLayer, weights },
        limits.prepareTimeoutMs,
      );
      wanted.loaded = true;
      wanted.announced = true;
      wanted.firstLoad.resolve();
    } catch (cause) {
      // When the process died of it, `#live` decides whether it is tried again.
      if (child.gone || this.#wanted.get(key) !== wanted) return;
      this.#wanted.delete(key);
      this.#announceLoss(key, wanted, cause as RingfoldError);
    }
  }

  /** Held back while a shard loads: the process would not read it sooner, and its stall clock would run. */
  #feed(): void {
    this.#queue.serveBy(this.#loading === 0 ? this.#child : null);
  }
}

export const openShardHost = (options: ShardHostOptions, modules: ShardHostModules): ShardHost =>
  new ShardHost(options, modules);

const closedError = () => new RingfoldError("CANCELLED", "the shard host is closing");

const sameLayers = (a: ShardToLoad, b: ShardToLoad): boolean =>
  a.fromLayer === b.fromLayer &&
  a.toLayer === b.toLayer &&
  a.manifest.weights.digest === b.manifest.weights.digest;
