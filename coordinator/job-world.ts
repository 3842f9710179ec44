import { limits } from "../protocol/limits.ts";
import type { CoordinatorContext } from "./context.ts";
import type { PeerFact } from "./decide/job.ts";
import { type AgentOffer, offerOf } from "./decide/needs.ts";
import type { QueueAgent } from "./decide/queue-facts.ts";
import { isDraining } from "./peers.ts";

type Peers = ReadonlyMap<string, PeerFact>;

/** What one look sees. */
interface Sight {
  readonly peers: Peers;
  readonly agents: readonly QueueAgent[];
  readonly offers: readonly AgentOffer[];
}

/**
 * What jobs are decided from: every peer, and whether it may work for one more job. An agent works for one job at a time: a
 * trainer takes all of its cores and most of its memory.
 *
 * With a thousand peers and a hundred jobs a look around would see a hundred thousand; the jobs of one look share what was seen, until one of
 * them takes an agent or lets one go.
 */
export class JobWorld {
  readonly #context: Pick<CoordinatorContext, "peers">;
  readonly #busy: () => ReadonlySet<string>;
  /** Of every worker that has joined since this coordinator began, as it was last seen. */
  readonly #offers = new Map<string, AgentOffer>();
  #isShared = false;
  #seen: Sight | undefined;

  /** @param busy who works for a job */
  constructor(context: Pick<CoordinatorContext, "peers">, busy: () => ReadonlySet<string>) {
    this.#context = context;
    this.#busy = busy;
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
    return this.#sight().agents;
  }

  /** What workers have for jobs, those that are away too. */
  offers(): readonly AgentOffer[] {
    return this.#sight().offers;
  }

  #sight(): Sight {
    const sight = this.#seen ?? this.#look();
    if (this.#isShared) this.#seen = sight;
    return sight;
  }

  #look(): Sight {
    const { peers } = this.#context;
    const busy = this.#busy();
    const facts = new Map<string, PeerFact>();
    const agents: QueueAgent[] = [];
    for (const peer of peers.all()) {
      const { peerId, name, incarnation, capabilities } = peer.hello;
      const state = peers.state(peer);
      const isWorker = peer.roles.includes("worker");
      const eligible = isWorker && state === "alive" && !busy.has(peerId);
      const connected = state !== "left" && state !== "dead";
      const silentMs = peers.silentMs(peer);
      const flapping = peers.isFlapping(peerId);
      const leaving = isDraining(peer);
      facts.set(peerId, { peerId, name, incarnation, connected, silentMs, leaving, eligible, flapping });
      if (!isWorker) continue;
      const offer = offerOf(capabilities);
      this.#remember(peerId, offer);
      if (connected && !leaving) agents.push({ peerId, idle: eligible, flapping, ...offer });
    }
    return { peers: facts, agents, offers: [...this.#offers.values()] };
  }

  #remember(peerId: string, offer: AgentOffer): void {
    this.#offers.set(peerId, offer);
    if (this.#offers.size <= limits.knownPeersMax) return;
    const [first] = this.#offers.keys();
    this.#offers.delete(first!);
  }
}
