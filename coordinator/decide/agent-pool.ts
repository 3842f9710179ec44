import { type AgentNeeds, type AgentOffer, keyOf, meets } from "./needs.ts";
import { whyNone } from "./needs-text.ts";
import type { QueueAgent, QueueJob } from "./queue-facts.ts";

/** Agents of one kind, in the order in which they are asked. */
interface Shelf {
  readonly agents: readonly QueueAgent[];
  /** Those before it are taken. */
  next: number;
}

/**
 * Idle agents while one decision about the queue is made: taken once, they are gone. Jobs that ask for the same share a list, so
 * that a thousand jobs do not look at a thousand agents each.
 */
export class AgentPool {
  readonly #agents: readonly QueueAgent[];
  readonly #byId: ReadonlyMap<string, QueueAgent>;
  readonly #idle: Set<string>;
  readonly #shelves = new Map<string, Shelf>();
  readonly #present = new Map<string, number>();
  readonly #known: readonly AgentOffer[];
  readonly #whyNone = new Map<string, string | undefined>();

  /**
   * @param known what agents have that are here, or were
   * @param employed who works for a job
   */
  constructor(agents: readonly QueueAgent[], known: readonly AgentOffer[], employed: ReadonlySet<string>) {
    this.#known = known;
    // Who comes and goes is asked last.
    this.#agents = [...agents].sort(
      (a, b) => Number(a.flapping) - Number(b.flapping) || (a.peerId < b.peerId ? -1 : 1),
    );
    this.#byId = new Map(agents.map((agent) => [agent.peerId, agent]));
    this.#idle = new Set(
      agents.filter(({ idle, peerId }) => idle && !employed.has(peerId)).map(({ peerId }) => peerId),
    );
  }

  /** The first `count` idle agents that the job can use, its holders before all others; fewer where there are no more. */
  first({ needs, barred, holders }: QueueJob, count: number): string[] {
    const isFree = (peerId: string) => this.#idle.has(peerId) && !barred.includes(peerId);
    const found = holders
      .filter((peerId) => isFree(peerId) && this.suits(needs, peerId))
      .toSorted()
      .slice(0, count);
    const shelf = this.#shelf(needs);
    while (shelf.next < shelf.agents.length && !this.#idle.has(shelf.agents[shelf.next]!.peerId))
      shelf.next++;
    for (let i = shelf.next; i < shelf.agents.length && found.length < count; i++) {
      const { peerId } = shelf.agents[i]!;
      if (isFree(peerId) && !found.includes(peerId)) found.push(peerId);
    }
    return found;
  }

  take(peerIds: readonly string[]): void {
    for (const peerId of peerIds) this.#idle.delete(peerId);
  }

  suits(needs: AgentNeeds, peerId: string): boolean {
    const agent = this.#byId.get(peerId);
    return agent !== undefined && meets(agent, needs);
  }

  /** Agents that the job could use if all were idle. */
  presentCount({ needs, barred }: Pick<QueueJob, "needs" | "barred">): number {
    const key = keyOf(needs);
    const known = this.#present.get(key) ?? this.#agents.filter((agent) => meets(agent, needs)).length;
    this.#present.set(key, known);
    return known - barred.filter((peerId) => this.suits(needs, peerId)).length;
  }

  /** For people: why nobody could, whoever comes back. */
  whyNone(needs: AgentNeeds): string | undefined {
    const key = keyOf(needs);
    if (!this.#whyNone.has(key)) this.#whyNone.set(key, whyNone(needs, this.#known));
    return this.#whyNone.get(key);
  }

  /** Who is idle still, of those that suit. */
  idle(needs: AgentNeeds): string[] {
    return this.#shelf(needs)
      .agents.map(({ peerId }) => peerId)
      .filter((peerId) => this.#idle.has(peerId));
  }

  #shelf(needs: AgentNeeds): Shelf {
    const key = keyOf(needs);
    const known = this.#shelves.get(key);
    if (known) return known;
    const shelf = { agents: this.#agents.filter((agent) => meets(agent, needs)), next: 0 };
    this.#shelves.set(key, shelf);
    return shelf;
  }
}
