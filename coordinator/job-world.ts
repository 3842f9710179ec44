import type { JobSpec } from "../protocol/job-spec.ts";
import type { CoordinatorContext } from "./context.ts";
import type { PeerFact } from "./decide/job.ts";
import { isDraining } from "./peers.ts";

type Peers = ReadonlyMap<string, PeerFact>;

/**
 * What jobs are decided from: every peer, and whether it may work for one more job. An agent works for one job at a time: a
 * trainer takes all of its cores and most of its memory.
 *
 * With a thousand peers and a hundred jobs a look around would see a hundred thousand; the jobs of one look share what was seen, until one of
 * them takes an agent or lets one go.
 */
export class JobWorld {
  readonly #context: Pick<CoordinatorContext, "peers" | "clock">;
  readonly #busy: () => ReadonlySet<string>;
  /** By whether the job brings a script. */
  #seen: Map<boolean, Peers> | undefined;

  /** @param busy who works for a job */
  constructor(context: Pick<CoordinatorContext, "peers" | "clock">, busy: () => ReadonlySet<string>) {
    this.#context = context;
    this.#busy = busy;
  }

  /** Does `look`, in which nothing is heard of peers. */
  async shared(look: () => Promise<void>): Promise<void> {
    this.#seen = new Map();
    try {
      await look();
    } finally {
      this.#seen = undefined;
    }
  }

  /** A job has taken an agent, or let one go. */
  membersChanged(): void {
    this.#seen?.clear();
  }

  /** `eligible` says nothing of a job's own members: they work for a job. */
  peers({ engine }: Pick<JobSpec, "engine">): Peers {
    const bringsScript = engine === "torch";
    const known = this.#seen?.get(bringsScript);
    if (known) return known;
    const facts = this.#look(bringsScript);
    this.#seen?.set(bringsScript, facts);
    return facts;
  }

  #look(bringsScript: boolean): Peers {
    const { peers, clock } = this.#context;
    const nowMs = clock.nowMs();
    const busy = this.#busy();
    return new Map(
      peers.all().map((peer) => {
        const { peerId, name, incarnation } = peer.hello;
        const mayRun = !bringsScript || peer.hello.capabilities.scripts;
        const state = peers.state(peer, nowMs);
        const eligible = peer.roles.includes("worker") && state === "alive" && !busy.has(peerId) && mayRun;
        const connected = state !== "left" && state !== "dead";
        const silentMs = nowMs - peer.lastSeenMs;
        const flapping = peers.isFlapping(peerId, nowMs);
        const leaving = isDraining(peer);
        return [peerId, { peerId, name, incarnation, connected, silentMs, leaving, eligible, flapping }];
      }),
    );
  }
}
