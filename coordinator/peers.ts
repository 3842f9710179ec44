import type { Role } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import type { PeerView } from "../protocol/messages/api.ts";
import type { MeasuredLink } from "../protocol/messages/link.ts";
import type { Hello, Presence } from "../protocol/messages/membership.ts";

/** A peer as the coordinator sees it: what it said at joining, what it gossips, whether its socket stands. */
export interface Peer {
  hello: Hello;
  readonly roles: readonly Role[];
  connected: boolean;
  /** Its last socket has closed since it joined: who connects now may be its next life. */
  parted: boolean;
  leaving: boolean;
  left: boolean;
  lastSeenMs: number;
  sequence: number;
  load: Presence["load"];
  artefacts: readonly string[];
  links: readonly MeasuredLink[];
}

/** The peer table: fed by joins, presence and sockets; asked by the deciders. No I/O. */
export class PeerTable {
  readonly #peers = new Map<string, Peer>();

  get(peerId: string): Peer | undefined {
    return this.#peers.get(peerId);
  }

  all(): Peer[] {
    return [...this.#peers.values()];
  }

  /** A join: the first one, or the return of a peer after a restart or a lost connection. */
  admit(hello: Hello, roles: readonly Role[], nowMs: number): void {
    const known = this.#peers.get(hello.peerId);
    const sameLife = known?.hello.incarnation === hello.incarnation;
    this.#peers.set(hello.peerId, {
      hello,
      roles,
      connected: true,
      parted: false,
      leaving: sameLife ? known.leaving : false,
      left: false,
      lastSeenMs: nowMs,
      sequence: sameLife ? known.sequence : -1,
      load: { cpu: 0, residentBytes: 0 },
      artefacts: known?.artefacts ?? [],
      links: known?.links ?? [],
    });
  }

  /** Takes presence of an admitted peer; facts of an earlier life or out of order are dropped. Whether it was news. */
  hear(presence: Presence, nowMs: number): boolean {
    const peer = this.#peers.get(presence.hello.peerId);
    if (!peer || peer.left || peer.hello.incarnation !== presence.hello.incarnation) return false;
    if (presence.sequence <= peer.sequence) return false;
    peer.sequence = presence.sequence;
    peer.hello = presence.hello;
    peer.load = presence.load;
    peer.artefacts = presence.artefacts;
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
    else peer.parted = true;
    return true;
  }

  /** Forgets peers that have been gone for long. Whether any was. */
  sweep(nowMs: number): boolean {
    let changed = false;
    for (const [peerId, peer] of this.#peers) {
      if (peer.connected || nowMs - peer.lastSeenMs < limits.peerForgetMs) continue;
      this.#peers.delete(peerId);
      changed = true;
    }
    return changed;
  }

  state(peer: Peer, nowMs: number): PeerView["state"] {
    if (peer.left) return "left";
    if (!peer.connected) return "dead";
    return nowMs - peer.lastSeenMs > limits.heartbeatTimeoutMs ? "suspect" : "alive";
  }

  /** Fit for work: connected, heard of lately, not saying goodbye. */
  isLive(peer: Peer, nowMs: number): boolean {
    return this.state(peer, nowMs) === "alive" && !peer.leaving;
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
