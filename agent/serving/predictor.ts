import { type ErrorCode, errorRules, RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { inferShard, type Placement, type Shard, type WireTensor } from "../../protocol/messages/serving.ts";
import type { Clock, ClusterNetwork, Log } from "../../protocol/ports.ts";
import { abortError, type Deadline, openDeadline, untilAborted } from "../deadline.ts";
import type { ShardHost } from "./host/shard-host.ts";
import type { InferResult } from "./host/shard-host-messages.ts";
import { missingShards, type PlacementTable } from "./placement-table.ts";
import { checkAnswer, checkInput, checkOutput } from "./prediction-checks.ts";
import type { Router } from "./router.ts";
import { shardKey } from "./shard-key.ts";
import { fromWire, type Tensor, toWire } from "./wire-tensor.ts";

export interface PredictRequest {
  readonly name: string;
  /** The live version when absent. */
  readonly version?: number;
  /** As its caller names it. */
  readonly id?: string;
  /** `limits.predictTimeoutMs` when absent. */
  readonly timeoutMs?: number;
  /** f32, shape [batch, ...inputShape of the model]. */
  readonly input: Tensor;
}

/** How one shard was passed: for logs, metrics and the curious. */
export interface HopTrace {
  readonly shardIndex: number;
  /** Who answered. */
  readonly peerId: string;
  readonly attempts: number;
  readonly latencyMs: number;
  readonly computeMs: number;
}

export interface PredictReply {
  readonly name: string;
  readonly version: number;
  /** f32, shape [batch, ...outputShape of the model]. */
  readonly output: Tensor;
  readonly hops: readonly HopTrace[];
}

export interface PredictorModules {
  readonly network: ClusterNetwork;
  readonly host: Pick<ShardHost, "has" | "infer">;
  readonly table: PlacementTable;
  readonly router: Router;
  readonly clock: Clock;
  readonly log: Log;
}

/** One hop on its way: what does not change between attempts. */
interface Hop {
  readonly placement: Placement;
  readonly shard: Shard;
  readonly input: WireTensor;
  readonly deadline: Deadline;
}

/**
 * The path of a prediction, from the cached placement through one replica of each shard. No coordinator is on it, and a
 * dying replica costs a retry of one hop, not the request.
 */
export class Predictor {
  readonly #modules: PredictorModules;

  constructor(modules: PredictorModules) {
    this.#modules = modules;
  }

  /**
   * @throws RingfoldError NOT_FOUND | REQUEST_INVALID | PAYLOAD_TOO_LARGE of the request; NO_REPLICA | OVERLOADED |
   *   REQUEST_TIMEOUT | NOT_FINITE of the cluster; CANCELLED when `signal` aborts
   * Cost: one round trip a shard that is not loaded here, with the activations of the batch.
   */
  async predict(request: PredictRequest, signal: AbortSignal): Promise<PredictReply> {
    const placement = this.#find(request);
    checkInput(placement, request.input);
    const what = `prediction by ${placement.name}@${placement.version}`;
    const deadline = openDeadline(
      { timeoutMs: request.timeoutMs ?? limits.predictTimeoutMs, what, parent: signal },
      this.#modules.clock,
    );
    try {
      let tensor = toWire(request.input);
      const hops: HopTrace[] = [];
      for (const shard of placement.shards) {
        const { output, trace } = await this.#pass({ placement, shard, input: tensor, deadline });
        tensor = output;
        hops.push(trace);
      }
      const output = fromWire(tensor);
      checkAnswer(placement, output);
      return { name: placement.name, version: placement.version, output, hops };
    } finally {
      deadline.release();
    }
  }

  #find({ name, version }: PredictRequest): Placement {
    const placement = this.#modules.table.find(name, version);
    if (placement !== undefined) return placement;
    const live = this.#modules.table.find(name);
    const detail =
      live === undefined ? `model ${name} is not deployed` : `${name} serves version ${live.version}`;
    throw new RingfoldError(
      "NOT_FOUND",
      version === undefined ? detail : `no version ${version} of ${name}: ${detail}`,
      {
        name,
      },
    );
  }

  /** Passes one shard, by another replica when one fails, until someone answers or nobody is left. */
  async #pass(hop: Hop): Promise<{ output: WireTensor; trace: HopTrace }> {
    const { clock, router, log } = this.#modules;
    const key = shardKey({ ...hop.placement, shardIndex: hop.shard.shardIndex });
    const failed = new Map<string, RingfoldError>();
    const graceEndsAtMs = clock.monotonicMs() + limits.placementGraceMs;
    while (failed.size < limits.hopAttemptsMax) {
      const newerTable = this.#modules.table.changed();
      const untried = this.#replicas(hop, key).filter((peerId) => !failed.has(peerId));
      const peerId = router.pick(key, untried);
      if (peerId === null) {
        if (!isOutdated(hop, failed) || !(await this.#comes(newerTable, graceEndsAtMs, hop))) break;
        for (const [other, { code }] of failed) if (code === "NOT_FOUND") failed.delete(other);
        continue;
      }
      const startedAtMs = clock.monotonicMs();
      try {
        const isLast = untried.length === 1 || failed.size + 1 === limits.hopAttemptsMax;
        const { output, computeMs } = await router.track(peerId, key, () =>
          this.#attempt(hop, peerId, isLast),
        );
        const latencyMs = clock.monotonicMs() - startedAtMs;
        const attempts = failed.size + 1;
        const { shardIndex } = hop.shard;
        return { output, trace: { shardIndex, peerId, attempts, latencyMs, computeMs } };
      } catch (cause) {
        if (hop.deadline.signal.aborted) throw abortError(hop.deadline.signal);
        const error = toRingfoldError(cause);
        if (!anotherMayAnswer(error.code)) throw error;
        if (blamesPeer(error.code)) router.putAside(peerId);
        log.debug({ shard: key, peerId, code: error.code, reason: error.message }, "Hop failed");
        failed.set(peerId, error);
      }
    }
    throw nobodyLeft(hop, key, failed);
  }

  /** Whether a newer table came before the grace ended. */
  async #comes(newerTable: Promise<void>, endsAtMs: number, { deadline }: Hop): Promise<boolean> {
    const { clock } = this.#modules;
    const timeoutMs = Math.max(0, endsAtMs - clock.monotonicMs());
    const grace = openDeadline({ timeoutMs, what: "a newer placement", parent: deadline.signal }, clock);
    try {
      await untilAborted(newerTable, grace.signal);
      return true;
    } catch {
      if (deadline.signal.aborted) throw abortError(deadline.signal);
      return false;
    } finally {
      grace.release();
    }
  }

  /** Who could pass the shard now. The table may have changed since the request came, so it is asked each time. */
  #replicas({ placement, shard }: Hop, key: string): string[] {
    const { host, network, table } = this.#modules;
    const now = table.current(placement.deployment)?.shards[shard.shardIndex];
    const ready = (now ?? shard).replicas.filter((replica) => replica.ready);
    const remote = ready.map(({ peerId }) => peerId).filter((peerId) => peerId !== network.peerId);
    // What is loaded here is known better here than in any table.
    return host.has(key) ? [network.peerId, ...remote] : remote;
  }

  async #attempt(hop: Hop, peerId: string, isLast: boolean): Promise<InferResult> {
    const { clock, host, network } = this.#modules;
    const { placement, shard, input, deadline } = hop;
    // Half of what is left: a replica that hangs without a closed socket must leave time for another one.
    const timeoutMs = Math.ceil(isLast ? deadline.remainingMs() : deadline.remainingMs() / 2);
    const { deployment, name, version } = placement;
    const { shardIndex } = shard;
    const what = `shard ${shardIndex} of ${name}@${version} on ${peerId}`;
    const attempt = openDeadline({ timeoutMs, what, parent: deadline.signal }, clock);
    try {
      const { signal } = attempt;
      const result =
        peerId === network.peerId
          ? await host.infer(shardKey({ deployment, name, version, shardIndex }), input, signal)
          : await network.request(
              peerId,
              inferShard,
              { deployment, name, version, shardIndex, input },
              { signal, timeoutMs },
            );
      checkOutput(placement, shard, input, result.output);
      return result;
    } catch (cause) {
      throw attempt.signal.aborted ? abortError(attempt.signal) : cause;
    } finally {
      attempt.release();
    }
  }
}

/** A replica that says it has no such shard, or one that is still loading: word of the present state is on its way. */
const isOutdated = ({ shard }: Hop, failed: ReadonlyMap<string, RingfoldError>): boolean =>
  [...failed.values()].some(({ code }) => code === "NOT_FOUND") ||
  (failed.size === 0 && shard.replicas.length > 0);

/** Faults of the request fail on every replica; anything else may be only that replica's trouble. */
function anotherMayAnswer(code: ErrorCode): boolean {
  if (code === "NOT_FOUND" || code === "CANCELLED") return true; // unloaded, or closing
  return errorRules[code].blame !== "caller" && code !== "MESSAGE_TOO_LARGE";
}

/** A full or freshly emptied replica is not a broken peer: its other shards go on as before. */
const blamesPeer = (code: ErrorCode): boolean => code !== "OVERLOADED" && code !== "NOT_FOUND";

function nobodyLeft(hop: Hop, key: string, failed: ReadonlyMap<string, RingfoldError>): RingfoldError {
  const errors = [...failed.values()];
  const last = errors.at(-1);
  if (last === undefined) {
    const missing = missingShards(hop.placement);
    const { name, version, shards } = hop.placement;
    const indices = missing.length > 0 ? missing : [hop.shard.shardIndex];
    return new RingfoldError(
      "NO_REPLICA",
      `${name}@${version}: no ready replica of shard ${indices.join(", ")} of ${shards.length}`,
      { name, version, missing: indices.map(String) },
    );
  }
  // The cluster is whole but slow: the caller may try again, and no operator has to look for a dead agent.
  if (errors.every(({ code }) => code === "OVERLOADED") || last.code === "REQUEST_TIMEOUT") return last;
  const tried = [...failed].map(([peerId, { code }]) => `${peerId}: ${code}`);
  return new RingfoldError(
    "NO_REPLICA",
    `none of ${tried.length} replicas of shard ${key} answered; the last: ${last.message}`,
    { shard: key, tried },
    { cause: last },
  );
}
