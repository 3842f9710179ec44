import { type HoldRequest, holdArtefacts } from "../protocol/messages/artefact.ts";
import type { CoordinatorContext } from "./context.ts";
import { decideReplicas, type Holder, holdsLastCopy } from "./decide/replication.ts";

/** An agent that was asked to hold something and does not say so is asked again. */
const askAgainMs = 5_000;
/** What one agent is asked to fetch at a time; as it says that it holds these, it is asked for more. */
const heldAtOnceMax = 1_000;
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
  /** Jobs whose checkpoints may go, by who has them. */
  readonly checkpoints: ReadonlyMap<string, readonly string[]>;
}

type Instruction = Omit<HoldRequest, "term">;

/** Something to hold, or to let go. */
interface Order {
  readonly instruction: Instruction;
  /** Of what is in it. */
  readonly text: string;
  /** It is asked for again until it is held; what may go is told once. */
  readonly isAsked: boolean;
}

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
  /** What the instructions were decided from: with thousands of artefacts it is worth the look whether that has changed. */
  #seen: readonly unknown[] = [];
  #orders: ReadonlyMap<string, Order> = new Map();

  constructor(context: CoordinatorContext, registered: () => AllRegistered) {
    this.#context = context;
    this.#registered = registered;
  }

  /** Membership, what agents hold or what is registered may have changed. */
  lookAround(): void {
    const { holders, clock } = this.#context;
    const agents = this.#agents();
    const registered = this.#registered();
    const { datasets, weights, checkpoints } = registered;
    const present = agents.map(({ peerId, isLeaving }) => `${peerId} ${isLeaving}`);
    const seen = [holders.revision, datasets, weights, checkpoints, ...present];
    if (seen.length !== this.#seen.length || seen.some((each, i) => each !== this.#seen[i])) {
      this.#seen = seen;
      this.#orders = this.#decide(agents, registered);
    }
    for (const [peerId, order] of this.#orders) this.#consider(peerId, order, clock.monotonicMs());
  }

  /** Whether something would be lost with this agent if it went now, and somebody is there to take it over. */
  dependsOn(peerId: string): boolean {
    const agents = this.#agents();
    const leaver = agents.find((agent) => agent.peerId === peerId);
    if (!leaver) return false;
    const { datasets, weights } = this.#registered();
    return [datasets, weights].some(({ present }) => holdsLastCopy(leaver, present, agents));
  }

  /** Workers that are there; also those on their way out, which still give what they hold. */
  #agents(): Holder[] {
    const { peers, holders } = this.#context;
    return peers.all().flatMap((peer) => {
      const state = peers.state(peer);
      if ((state !== "alive" && state !== "draining") || !peer.roles.includes("worker")) return [];
      const { peerId } = peer.hello;
      return [{ peerId, holds: holders.heldBy(peerId), isLeaving: state === "draining" }];
    });
  }

  /** Of agents that have nothing to do there is none. */
  #decide(agents: readonly Holder[], registered: AllRegistered): Map<string, Order> {
    const { datasets, weights } = registered;
    const { replicaCount } = this.#context;
    const askedData = decideReplicas(datasets.present, agents, replicaCount);
    const askedWeights = decideReplicas(weights.present, agents, replicaCount);
    const [forget, goneWeights] = [forgotten(datasets), forgotten(weights)];
    const keep = [...datasets.present];
    const orders = new Map<string, Order>();
    for (const { peerId, holds } of agents) {
      const hold = (askedData.get(peerId) ?? []).slice(0, heldAtOnceMax);
      const ofWeights = {
        hold: (askedWeights.get(peerId) ?? []).slice(0, heldAtOnceMax),
        forget: goneWeights.filter((digest) => holds.has(digest)),
      };
      const checkpoints = [...(registered.checkpoints.get(peerId) ?? [])];
      const isAsked = hold.length + ofWeights.hold.length > 0;
      if (!isAsked && forget.length + ofWeights.forget.length + checkpoints.length === 0) continue;
      const text = JSON.stringify([hold, forget, ofWeights, checkpoints]);
      const instruction = { hold, keep, forget, weights: ofWeights, checkpoints };
      orders.set(peerId, { instruction, text, isAsked });
    }
    return orders;
  }

  #consider(peerId: string, { instruction, text, isAsked }: Order, nowMs: number): void {
    const key = `${this.#context.peers.get(peerId)!.hello.incarnation} ${text}`;
    const told = this.#told.get(peerId);
    const isDue = told?.key !== key || (isAsked && nowMs - told.atMs > askAgainMs);
    if (isDue && !this.#telling.has(peerId)) void this.#tell(peerId, key, instruction);
  }

  async #tell(peerId: string, key: string, instruction: Instruction): Promise<void> {
    const { network, term, clock, log } = this.#context;
    this.#telling.add(peerId);
    try {
      await network.request(peerId, holdArtefacts, { term, ...instruction });
      this.#told.set(peerId, { key, atMs: clock.monotonicMs() });
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

const nobody: string[] = [];

/** Connected peers that say that they hold an artefact. Asked for each of ten thousand versions, page after page. */
export function liveHolders(
  { holders, peers }: Pick<CoordinatorContext, "holders" | "peers">,
  digest: string,
): string[] {
  const all = holders.of(digest);
  return all.size === 0 ? nobody : [...all].filter((peerId) => peers.isConnected(peerId));
}
