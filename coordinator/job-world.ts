import { limits } from "../protocol/limits.ts";
import type { CoordinatorContext } from "./context.ts";
import type { PeerFact, JobWorld as SeenByJob } from "./decide/job.ts";
import { type AgentOffer, offerOf } from "./decide/needs.ts";
import type { QueueAgent } from "./decide/queue-facts.ts";
import { isDraining, type Peer } from "./peers.ts";

type Peers = SeenByJob["peers"];

/** What one look sees: of a peer when somebody asks for it. */
interface Sight {
  readonly peers: Peers;
  agents: readonly QueueAgent[] | undefined;
}

/**
 * What jobs are decided from: every peer, and whether it may work for one more job. An agent works for one job at a time: a
 * trainer takes all of its cores and most of its memory.
 *
 * A job asks for its members, and the queue, where somebody wants agents, for all. So what one event costs does not grow with the
 * peers that have nothing to do with it. Who asks twice in one look is told the same, until a job takes an agent or lets one go.
 */
export class JobWorld {
  readonly #context: Pick<CoordinatorContext, "peers">;
  readonly #isEmployed: (peerId: string) => boolean;
  /** Of every worker that has joined since this coordinator began, as it was last seen. */
  readonly #offers = new Map<string, AgentOffer>();
  #isShared = false;
  #seen: Sight | undefined;

  /** @param isEmployed whether it works for a job */
  constructor(context: Pick<CoordinatorContext, "peers">, isEmployed: (peerId: string) => boolean) {
    this.#context = context;
    this.#isEmployed = isEmployed;
  }

  /** Does `look`, in which nothing is heard of peers. */
  async shared(look: () => Promise<void>): Promise<void> {
    this.#isShared = true;
    try {
      await look();
    } finally {
      this.#isShared = false;
      this.#seen = undefined;
    }
  }

  /** A job has taken an agent, or let one go. */
  membersChanged(): void {
    this.#seen = undefined;
  }

  /** `eligible` says nothing of a job's own members: they work for a job. */
  peers(): Peers {
    return this.#sight().peers;
  }

  /** Who works, or could. */
  agents(): readonly QueueAgent[] {
    const sight = this.#sight();
    sight.agents ??= this.#lookAtAll();
    return sight.agents;
  }

  /** What workers have for jobs, those that are away too. */
  offers(): readonly AgentOffer[] {
    this.agents(); // who has come since the last look is among them
    return [...this.#offers.values()];
  }

  #sight(): Sight {
    const sight = this.#seen ?? this.#look();
    if (this.#isShared) this.#seen = sight;
    return sight;
  }

  #look(): Sight {
    const { peers } = this.#context;
    const facts = new Map<string, PeerFact>();
    const get = (peerId: string): PeerFact | undefined => {
      const known = facts.get(peerId);
      const peer = known ? undefined : peers.get(peerId);
      if (!peer) return known;
      const fact = this.#factOf(peer);
      facts.set(peerId, fact);
      return fact;
    };
    return { peers: { get, has: (peerId) => peers.get(peerId) !== undefined }, agents: undefined };
  }

  #factOf(peer: Peer): PeerFact {
    const { peers } = this.#context;
    const { peerId, name, incarnation } = peer.hello;
    const state = peers.state(peer);
    return {
      ...{ peerId, name, incarnation, connected: isPresent(state), leaving: isDraining(peer) },
      ...{ eligible: this.#isIdle(peer, state), flapping: peers.isFlapping(peerId) },
      silentMs: peers.silentMs(peer),
    };
  }

  #lookAtAll(): QueueAgent[] {
    const { peers } = this.#context;
    const agents: QueueAgent[] = [];
    for (const peer of peers.all()) {
      if (!isWorker(peer)) continue;
      const { peerId, capabilities } = peer.hello;
      const offer = offerOf(capabilities);
      this.#remember(peerId, offer);
      const state = peers.state(peer);
      if (!isPresent(state) || isDraining(peer)) continue;
      agents.push({
        ...{ peerId, idle: this.#isIdle(peer, state), flapping: peers.isFlapping(peerId) },
        ...offer,
      });
    }
    return agents;
  }

  #remember(peerId: string, offer: AgentOffer): void {
    this.#offers.set(peerId, offer);
    if (this.#offers.size <= limits.knownPeersMax) return;
    const [first] = this.#offers.keys();
    this.#offers.delete(first!);
  }

  #isIdle(peer: Peer, state: PeerState): boolean {
    return isWorker(peer) && state === "alive" && !this.#isEmployed(peer.hello.peerId);
  }
}

type PeerState = ReturnType<CoordinatorContext["peers"]["state"]>;

const isWorker = ({ roles }: Peer): boolean => roles.includes("worker");
const isPresent = (state: PeerState): boolean => state !== "left" && state !== "dead";
