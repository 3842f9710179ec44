import type { Role } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import type { PeerView } from "../protocol/messages/api.ts";
import type { MeasuredLink } from "../protocol/messages/link.ts";
import type { Hello, Presence } from "../protocol/messages/membership.ts";
import type { Clock } from "../protocol/ports.ts";
import { Attention } from "./attention.ts";
import { lostAgain, type Steadiness, settled, steady } from "./decide/flapping.ts";
import { decideHealth, type Health, isSilent, mostAreSilent, noHealth } from "./decide/health.ts";
import type { Sighting } from "./decide/sighting.ts";
import { Rhythm } from "./decide/suspicion.ts";

/** A peer as the coordinator sees it: what it said at joining, what it gossips, whether its socket stands. */
export interface Peer {
  hello: Hello;
  readonly roles: readonly Role[];
  connected: boolean;
  /** Its last socket has closed since it joined: who connects now may be its next life. */
  parted: boolean;
  leaving: boolean;
  /** An operator has taken it out of service. */
  drained: boolean;
  left: boolean;
  /** Its socket closed in a silence of most peers: perhaps it was we who gave it up. */
  givenUp: boolean;
  /** For people. */
  lastSeenMs: number;
  /** By the attention of this coordinator. */
  heardMs: number;
  sequence: number;
  load: Presence["load"];
  links: readonly MeasuredLink[];
}

/** It works on what it has, and is given nothing new. */
export const isDraining = ({ leaving, drained }: Pick<Peer, "leaving" | "drained">): boolean =>
  leaving || drained;

/** What one look has found; to be told, and then to be adopted. */
export type Judgement = ReturnType<typeof decideHealth> & {
  readonly atMs: number;
  /** Who comes and goes, as text. */
  readonly flapping: string;
};

/** The peer table: fed by joins, presence and sockets; asked by the deciders. No I/O. */
export class PeerTable {
  readonly #clock: Pick<Clock, "nowMs" | "monotonicMs">;
  readonly #attention: Attention;
  #health: Health = noHealth;
  /** Of the look that was adopted last. */
  #judgedMs = 0;
  #flapping = "";
  readonly #peers = new Map<string, Peer>();
  /** They outlive the lives of a peer: a restart makes it no steadier, and its link no better. */
  readonly #steadiness = new Map<string, Steadiness>();
  readonly #rhythms = new Map<string, Rhythm>();
  #connections = 0;

  constructor(clock: Pick<Clock, "nowMs" | "monotonicMs">) {
    this.#clock = clock;
    this.#attention = new Attention(clock);
  }

  get(peerId: string): Peer | undefined {
    return this.#peers.get(peerId);
  }

  all(): Peer[] {
    return [...this.#peers.values()];
  }

  /** Grows whenever a peer may be connected that was not, or the other way round. */
  get connections(): number {
    return this.#connections;
  }

  isConnected(peerId: string): boolean {
    return this.#peers.get(peerId)?.connected ?? false;
  }

  /** A join: the first one, or the return of a peer after a restart or a lost connection. */
  admit(hello: Hello, roles: readonly Role[], drained = false): void {
    const known = this.#peers.get(hello.peerId);
    const sameLife = known?.hello.incarnation === hello.incarnation;
    this.#connections++;
    if (!this.#rhythms.has(hello.peerId)) this.#rhythms.set(hello.peerId, new Rhythm());
    this.#peers.set(hello.peerId, {
      hello,
      roles,
      connected: true,
      parted: false,
      leaving: sameLife ? known.leaving : false,
      drained,
      left: false,
      givenUp: false,
      ...this.#now(),
      sequence: sameLife ? known.sequence : -1,
      load: { cpu: 0, residentBytes: 0 },
      links: known?.links ?? [],
    });
  }

  /** Takes presence of an admitted peer; facts of an earlier life or out of order are dropped. Whether it was news. */
  hear(presence: Presence): boolean {
    const peer = this.#peers.get(presence.hello.peerId);
    if (!peer || peer.left || peer.hello.incarnation !== presence.hello.incarnation) return false;
    if (presence.sequence <= peer.sequence) return false;
    peer.sequence = presence.sequence;
    const heard = this.#now();
    const rhythm = this.#rhythms.get(presence.hello.peerId);
    const isOurs = this.#attention.wasPaused || this.#health.deafness !== null;
    if (isOurs) rhythm?.resume(presence.sequence, heard.heardMs);
    else rhythm?.hear(presence.sequence, heard.heardMs);
    peer.hello = presence.hello;
    peer.load = presence.load;
    peer.links = presence.links;
    Object.assign(peer, heard);
    return true;
  }

  /** A request is a sign of life as good as presence. */
  heardFrom(peerId: string): void {
    const peer = this.#peers.get(peerId);
    if (peer) Object.assign(peer, this.#now());
  }

  /** A link as its sender measured it, else as its receiver did: probes run both ways. */
  readonly link = (from: string, to: string): MeasuredLink | undefined =>
    this.#peers.get(from)?.links.find(({ peerId }) => peerId === to) ??
    this.#peers.get(to)?.links.find(({ peerId }) => peerId === from);

  /** Whether anything changed. */
  setConnected(peerId: string, connected: boolean): boolean {
    const peer = this.#peers.get(peerId);
    if (!peer || peer.connected === connected) return false;
    const isUnheard = () => isSilent({ silentMs: this.silentMs(peer) }) && this.#isDeaf();
    const isOurs = !connected && (this.#attention.wasPaused || isUnheard());
    Object.assign(peer, { connected, givenUp: isOurs });
    this.#connections++;
    if (connected) {
      Object.assign(peer, this.#now());
      return true;
    }
    peer.parted = true;
    const nowMs = this.#attention.nowMs();
    if (!peer.left && !isOurs)
      this.#steadiness.set(peerId, lostAgain(this.#steadinessOf(peerId, nowMs), nowMs));
    return true;
  }

  /** Forgets peers that have been gone for long. @returns them */
  sweep(): string[] {
    const forgotten: string[] = [];
    for (const [peerId, peer] of this.#peers) {
      const isGone = ["dead", "left"].includes(this.state(peer)) && !peer.connected;
      if (!isGone || this.silentMs(peer) < limits.peerForgetMs) continue;
      this.#peers.delete(peerId);
      this.#steadiness.delete(peerId);
      this.#rhythms.delete(peerId);
      forgotten.push(peerId);
    }
    return forgotten;
  }

  /** See `Attention`. */
  pulse(): void {
    this.#attention.pulse();
  }

  /** Looks at all peers: what has changed of them by time alone. Nothing of it holds before it is adopted. */
  look(): Judgement {
    this.#attention.attend();
    const atMs = this.#attention.nowMs();
    const { wasPaused } = this.#attention;
    const judgement = decideHealth(this.#health, { sightings: this.#sightings(), wasPaused }, atMs);
    const flapping = [...this.#steadiness.keys()].filter((peerId) => this.isFlapping(peerId)).join();
    const isChanged = judgement.isChanged || flapping !== this.#flapping;
    return { ...judgement, atMs, flapping, isChanged };
  }

  adopt({ health, atMs, flapping }: Judgement): void {
    this.#health = health;
    this.#judgedMs = atMs;
    this.#flapping = flapping;
  }

  /**
   * A closed socket is a death at once. Silence is judged once in a look; a sign of life since then counts more. Who is
   * silent while most others are may be suspect without a socket: there the fault is likely ours.
   */
  state(peer: Peer): PeerView["state"] {
    if (peer.left) return "left";
    if (!peer.connected && !peer.givenUp) return "dead";
    const verdict = this.#verdict(peer);
    if (verdict === "dead") return "dead";
    if (verdict === "suspect" || !peer.connected) return "suspect";
    return isDraining(peer) ? "draining" : "alive";
  }

  /** Whether its silence may be our own trouble: it may serve and train on meanwhile. */
  isExcused(peer: Peer): boolean {
    // A socket that was given up is known before the next look.
    return (this.#health.deafness !== null || peer.givenUp) && this.state(peer) === "suspect";
  }

  /** Of the time in which this coordinator could hear it. */
  silentMs({ heardMs }: Peer): number {
    return this.#attention.nowMs() - heardMs;
  }

  /** Whether it has come and gone too often lately to be the first choice. */
  isFlapping(peerId: string): boolean {
    return this.#steadiness.has(peerId) && this.#steadinessOf(peerId, this.#attention.nowMs()).isFlapping;
  }

  #steadinessOf(peerId: string, nowMs: number): Steadiness {
    return settled(this.#steadiness.get(peerId) ?? steady(nowMs), nowMs);
  }

  #verdict({ hello, heardMs }: Peer) {
    const judged = this.#health.judged.get(hello.peerId);
    const isPast = judged?.life !== hello.incarnation || heardMs >= this.#judgedMs;
    return judged && !isPast ? judged.verdict : "alive";
  }

  #isDeaf(): boolean {
    return this.#health.deafness !== null || mostAreSilent(this.#health, this.#sightings());
  }

  #sightings(): Sighting[] {
    return this.all()
      .filter(({ left }) => !left)
      .map((peer) => {
        const { hello, connected, givenUp } = peer;
        const { peerId, name, incarnation: life } = hello;
        const silentMs = this.silentMs(peer);
        const phi = this.#rhythms.get(peerId)?.phi(silentMs) ?? 0;
        return { peerId, name, life, connected, closed: !connected && !givenUp, silentMs, phi };
      });
  }

  #now(): Pick<Peer, "lastSeenMs" | "heardMs"> {
    return { lastSeenMs: this.#clock.nowMs(), heardMs: this.#attention.nowMs() };
  }

  /** Fit for work: connected, heard of lately, not saying goodbye. */
  isLive(peer: Peer): boolean {
    return this.state(peer) === "alive";
  }

  view(peer: Peer): PeerView {
    const { peerId, name, release, addresses, gatewayUrl, capabilities } = peer.hello;
    const state = this.state(peer);
    const { load, links, lastSeenMs } = peer;
    return {
      peerId,
      name,
      roles: [...peer.roles],
      state,
      flapping: this.isFlapping(peerId),
      release,
      addresses,
      gatewayUrl,
      capabilities,
      load,
      links: [...links],
      lastSeenMs,
    };
  }
}
