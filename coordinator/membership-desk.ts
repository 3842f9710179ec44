import { RingfoldError } from "../protocol/errors.ts";
import type { Role } from "../protocol/ids.ts";
import {
  type Hello,
  type JoinRequest,
  type JoinResponse,
  type Presence,
  protocolRange,
} from "../protocol/messages/membership.ts";
import type { CoordinatorContext } from "./context.ts";
import type { ClusterCredentials, Notary } from "./credentials.ts";
import { collections, type MemberRecord } from "./state.ts";

/** Who is a member, and how each one is: joins, presence, sockets, goodbyes. */
export class MembershipDesk {
  readonly #context: CoordinatorContext;
  readonly #credentials: ClusterCredentials;
  readonly #notary: Notary;

  constructor(context: CoordinatorContext, credentials: ClusterCredentials, notary: Notary) {
    this.#context = context;
    this.#credentials = credentials;
    this.#notary = notary;
  }

  /**
   * Admits a peer by token, or by the membership that it got for one.
   * @throws RingfoldError TOKEN_INVALID | TOKEN_EXPIRED | NOT_A_MEMBER | PROTOCOL_RANGE | DUPLICATE_IDENTITY
   */
  async join(request: JoinRequest, from: string): Promise<JoinResponse> {
    const { peers, clock, store, events, term, changed } = this.#context;
    const { hello } = request;
    const nowMs = clock.nowMs();
    this.#checkHello(hello, from);
    const member = collections.members.read(store, from) ?? (await this.#admit(request, from));
    const known = peers.get(from);
    if (known?.hello.incarnation !== hello.incarnation) {
      await store.write(
        events.append(hello.name, `${known ? "returned" : "joined"}: ${hello.capabilities.engine} engine`),
      );
    }
    peers.admit(hello, member.roles, nowMs);
    changed();
    return {
      membership: member.membership,
      roles: member.roles,
      term,
      clusterName: this.#credentials.authority.clusterName,
    };
  }

  async hear(presence: Presence, from: string): Promise<void> {
    const { peers, clock, network, store, events, changed } = this.#context;
    const { hello, membership } = presence;
    const isKnown = peers.get(from) !== undefined;
    if (from !== hello.peerId || (!isKnown && !network.connectedPeers().includes(from))) return;
    const { publicJwk } = this.#credentials.authority;
    const nowMs = clock.nowMs();
    const { roles } = await this.#notary.verifyMembership(publicJwk, membership, from, nowMs);
    if (!isKnown) {
      // A member of an earlier coordinator that has not noticed the change: its socket was replaced, never closed.
      this.#checkHello(hello, from);
      await store.write(events.append(hello.name, `is here: ${hello.capabilities.engine} engine`));
      peers.admit(hello, roles, nowMs);
    }
    if (peers.hear(presence, clock.nowMs())) changed();
  }

  async socketChanged(peerId: string, connected: boolean): Promise<void> {
    const { peers, clock, store, events, changed } = this.#context;
    const peer = peers.get(peerId);
    if (!peer || !peers.setConnected(peerId, connected, clock.nowMs())) return;
    if (!connected && !peer.left) await store.write(events.append(peer.hello.name, "connection closed"));
    changed();
  }

  /** A goodbye: nothing new is given to the peer. Whether it may go is for the desks to say. */
  async leave(peerId: string, reason: string): Promise<void> {
    const { peers, store, events, changed } = this.#context;
    const peer = peers.get(peerId);
    if (!peer || peer.leaving) return;
    await store.write(events.append(peer.hello.name, `wants to leave: ${reason}`));
    peer.leaving = true;
    changed();
  }

  async release(peerId: string): Promise<void> {
    const { peers, store, events, changed } = this.#context;
    const peer = peers.get(peerId);
    if (!peer || peer.left) return;
    await store.write(events.append(peer.hello.name, "left"));
    peer.left = true;
    changed();
  }

  #checkHello(hello: Hello, from: string): void {
    if (hello.peerId !== from) {
      throw new RingfoldError("NOT_A_MEMBER", "the hello names another peer than the connection", {
        peer: from,
      });
    }
    if (hello.protocolMin > protocolRange.max || hello.protocolMax < protocolRange.min) {
      const theirs = `${hello.protocolMin}-${hello.protocolMax}`;
      throw new RingfoldError(
        "PROTOCOL_RANGE",
        `this cluster speaks protocol ${protocolRange.min}-${protocolRange.max}, ${hello.name} (release ${hello.release}) ${theirs}`,
        { theirs, ours: `${protocolRange.min}-${protocolRange.max}` },
      );
    }
    this.#checkOneLife(hello);
  }

  /**
   * Two lives of one identity at the same time are a copied data folder. A restart is not that: the sockets of the old
   * life close with its process, and when the network ate that news, the old life falls silent.
   */
  #checkOneLife({ peerId, incarnation, capabilities }: Hello): void {
    const { peers, clock } = this.#context;
    const known = peers.get(peerId);
    if (!known || known.parted || known.hello.incarnation === incarnation) return;
    if (peers.state(known, clock.nowMs()) !== "alive") return;
    const { name, capabilities: theirs } = known.hello;
    throw new RingfoldError(
      "DUPLICATE_IDENTITY",
      `${name} on ${theirs.hostname} runs with this identity already`,
      { peer: peerId, name, hostname: theirs.hostname, refused: capabilities.hostname },
    );
  }

  async #admit({ hello, token, membership }: JoinRequest, from: string): Promise<MemberRecord> {
    const { clock, store } = this.#context;
    const { authority } = this.#credentials;
    const nowMs = clock.nowMs();
    // A certificate that this authority signed is believed even if the store was restored from before the join.
    const roles: Role[] = membership
      ? (await this.#notary.verifyMembership(authority.publicJwk, membership, from, nowMs)).roles
      : [(await this.#notary.verifyToken(authority.publicJwk, token, nowMs)).role];
    const record: MemberRecord = {
      peerId: hello.peerId,
      roles,
      membership: membership ?? (await this.#notary.issueMembership(authority, { peerId: from, roles })),
      admittedAtMs: nowMs,
    };
    await store.write([collections.members.put(from, record)]);
    return record;
  }
}
