import { limits } from "../protocol/limits.ts";
import { type HoldRequest, holdArtefacts } from "../protocol/messages/artefact.ts";
import type { CoordinatorContext } from "./context.ts";
import { decideReplicas } from "./decide/replication.ts";

/** An agent that was asked to hold something and does not say so is asked again. */
const askAgainMs = 5_000;
/** Removed artefacts that agents are still told of. */
const forgottenMax = 1_000;

/** What is registered of one kind, and what was, by digest. */
export interface Registered {
  readonly present: readonly string[];
  readonly removed: readonly string[];
}

interface AllRegistered {
  readonly datasets: Registered;
  readonly weights: Registered;
}

type Instruction = Omit<HoldRequest, "term">;

/**
 * Brings everything that is registered to as many agents as it should have, again after a loss, and lets agents free what
 * is not registered any more. Agents say what they hold in their presence; nothing of this is decided for good.
 */
export class ReplicationDesk {
  readonly #context: CoordinatorContext;
  readonly #registered: () => AllRegistered;
  /** What each peer has confirmed, in which life of it. */
  readonly #told = new Map<string, { readonly key: string; readonly atMs: number }>();
  readonly #telling = new Set<string>();

  constructor(context: CoordinatorContext, registered: () => AllRegistered) {
    this.#context = context;
    this.#registered = registered;
  }

  /** Membership, what agents hold or what is registered may have changed. */
  lookAround(): void {
    const { peers, clock } = this.#context;
    const nowMs = clock.nowMs();
    const live = peers.all().filter((peer) => peers.isLive(peer, nowMs) && peer.roles.includes("worker"));
    const agents = live.map(({ hello, artefacts }) => ({ peerId: hello.peerId, holds: new Set(artefacts) }));
    const { datasets, weights } = this.#registered();
    const askedData = decideReplicas(datasets.present, agents, limits.dataReplicas);
    const askedWeights = decideReplicas(weights.present, agents, limits.versionReplicas);
    const [forget, goneWeights] = [forgotten(datasets), forgotten(weights)];
    const keep = [...datasets.present];
    for (const { peerId, holds } of agents) {
      const hold = askedData.get(peerId) ?? [];
      const ofWeights = {
        hold: askedWeights.get(peerId) ?? [],
        forget: goneWeights.filter((digest) => holds.has(digest)),
      };
      this.#consider(peerId, { hold, keep, forget, weights: ofWeights }, nowMs);
    }
  }

  #consider(peerId: string, instruction: Instruction, nowMs: number): void {
    const { hold, forget, weights } = instruction;
    const isAsked = hold.length + weights.hold.length > 0;
    if (!isAsked && forget.length + weights.forget.length === 0) return;
    const { incarnation } = this.#context.peers.get(peerId)!.hello;
    const key = JSON.stringify([incarnation, hold, forget, weights]);
    const told = this.#told.get(peerId);
    const isDue = told?.key !== key || (isAsked && nowMs - told.atMs > askAgainMs);
    if (isDue && !this.#telling.has(peerId)) void this.#tell(peerId, key, instruction);
  }

  async #tell(peerId: string, key: string, instruction: Instruction): Promise<void> {
    const { network, term, clock, log } = this.#context;
    this.#telling.add(peerId);
    try {
      await network.request(peerId, holdArtefacts, { term, ...instruction });
      this.#told.set(peerId, { key, atMs: clock.nowMs() });
    } catch (error) {
      log.debug({ err: error, peer: peerId }, "An agent did not hear what to hold; it is told again");
    } finally {
      this.#telling.delete(peerId);
    }
  }
}

function forgotten({ present, removed }: Registered): string[] {
  const kept = new Set(present);
  return removed.filter((digest) => !kept.has(digest)).slice(-forgottenMax);
}
