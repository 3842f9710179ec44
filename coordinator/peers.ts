import type { Role } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import type { PeerView } from "../protocol/messages/api.ts";
import type { MeasuredLink } from "../protocol/messages/link.ts";
import type { Hello, Presence } from "../protocol/messages/membership.ts";
import { lostAgain, type Steadiness, settled, steady } from "./decide/flapping.ts";
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
  lastSeenMs: number;
  sequence: number;
  load: Presence["load"];
  links: readonly MeasuredLink[];
}

/** It works on what it has, and is given nothing new. */
export const isDraining = ({ leaving, drained }: Pick<Peer, "leaving" | "drained">): boolean =>
  leaving || drained;

/** The peer table: fed by joins, presence and sockets; asked by the deciders. No I/O. */
export class PeerTable {
  readonly #peers = new Map<string, Peer>();
  /** They outlive the lives of a peer: a restart makes it no steadier, and its link no better. */
  readonly #steadiness = new Map<string, Steadiness>();
  readonly #rhythms = new Map<string, Rhythm>();

  get(peerId: string): Peer | undefined {
    return this.#peers.get(peerId);
  }

  all(): Peer[] {
    return [...this.#peers.values()];
  }

  isConnected(peerId: string): boolean {
    return this.#peers.get(peerId)?.connected ?? false;
  }

  /** A join: the first one, or the return of a peer after a restart or a lost connection. */
  admit(hello: Hello, roles: readonly Role[], nowMs: number, drained = false): void {
    const known = this.#peers.get(hello.peerId);
    const sameLife = known?.hello.incarnation === hello.incarnation;
    if (!this.#rhythms.has(hello.peerId)) this.#rhythms.set(hello.peerId, new Rhythm());
    this.#peers.set(hello.peerId, {
      hello,
      roles,
      connected: true,
      parted: false,
      leaving: sameLife ? known.leaving : false,
      drained,
      left: false,
      lastSeenMs: nowMs,
      sequence: sameLife ? known.sequence : -1,
      load: { cpu: 0, residentBytes: 0 },
      links: known?.links ?? [],
    });
  }

  /** Takes presence of an admitted peer; facts of an earlier life or out of order are dropped. Whether it was news. */
  hear(presence: Presence, nowMs: number): boolean {
    const peer = this.#peers.get(presence.hello.peerId);
    if (!peer || peer.left || peer.hello.incarnation !== presence.hello.incarnation) return false;
    if (presence.sequence <= peer.sequence) return false;
    peer.sequence = presence.sequence;
    this.#rhythms.get(presence.hello.peerId)?.hear(presence.sequence, nowMs);
    peer.hello = presence.hello;
    peer.load = presence.load;
    peer.links = presence.links;
    peer.lastSeenMs = nowMs;
    return true;
  }

  /** A request is a sign of life as good as presence. */
  heardFrom(peerId: string, nowMs: number): void {
    const peer = this.#peers.get(peerId);
    if (peer) peer.lastSeenMs = nowMs;
  }

  /** A link as its sender measured it, else as its receiver did: probes run both ways. */
  readonly link = (from: string, to: string): MeasuredLink | undefined =>
    this.#peers.get(from)?.links.find(({ peerId }) => peerId === to) ??
    this.#peers.get(to)?.links.find(({ peerId }) => peerId === from);

  /** Whether anything changed. */
  setConnected(peerId: string, connected: boolean, nowMs: number): boolean {
    const peer = this.#peers.get(peerId);
    if (!peer || peer.connected === connected) return false;
    peer.connected = connected;
    if (connected) peer.lastSeenMs = nowMs;
    else {
      peer.parted = true;
      if (!peer.left) this.#steadiness.set(peerId, lostAgain(this.#steadinessOf(peerId, nowMs), nowMs));
    }
    return true;
  }

  /** Forgets peers that have been gone for long. @returns them */
  sweep(nowMs: number): string[] {
    const forgotten: string[] = [];
    for (const [peerId, peer] of this.#peers) {
      if (peer.connected || nowMs - peer.lastSeenMs < limits.peerForgetMs) continue;
      this.#peers.delete(peerId);
      this.#steadiness.delete(peerId);
      this.#rhythms.delete(peerId);
      forgotten.push(peerId);
    }
    return forgotten;
  }

  /** A closed socket is a death at once. One that stands under a silent peer is half-open: doubt grows by the beat. */
  state(peer: Peer, nowMs: number): PeerView["state"] {
    if (peer.left) return "left";
    const phi = this.#rhythms.get(peer.hello.peerId)?.phi(nowMs - peer.lastSeenMs) ?? 0;
    if (!peer.connected || phi >= limits.deathPhi) return "dead";
    if (phi >= limits.suspicionPhi) return "suspect";
    return isDraining(peer) ? "draining" : "alive";
  }

  /** Whether it has come and gone too often lately to be the first choice. */
  isFlapping(peerId: string, nowMs: number): boolean {
    return this.#steadinessOf(peerId, nowMs).isFlapping;
  }

  #steadinessOf(peerId: string, nowMs: number): Steadiness {
    return settled(this.#steadiness.get(peerId) ?? steady(nowMs), nowMs);
  }

  /** Fit for work: connected, heard of lately, not saying goodbye. */
  isLive(peer: Peer, nowMs: number): boolean {
    return this.state(peer, nowMs) === "alive";
  }

  view(peer: Peer, nowMs: number): PeerView {
    const { peerId, name, release, addresses, gatewayUrl, capabilities } = peer.hello;
    const state = this.state(peer, nowMs);
    const { load, links, lastSeenMs } = peer;
    return {
      peerId,
      name,
      roles: [...peer.roles],
      state,
      flapping: this.isFlapping(peerId, nowMs),
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
