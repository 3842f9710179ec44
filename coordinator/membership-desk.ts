import { RingfoldError } from "../protocol/errors.ts";
import { type Role, shortPeer } from "../protocol/ids.ts";
import type { PeerView } from "../protocol/messages/api.ts";
import type { Decider } from "../protocol/messages/audit.ts";
import type { JoinRequest, JoinResponse, Presence } from "../protocol/messages/membership.ts";
import type { CoordinatorContext } from "./context.ts";
import type { ClusterCredentials, Notary } from "./credentials.ts";
import {
  checkHello,
  decideMember,
  type MemberEvent,
  type MemberRecord,
  type MemberState,
} from "./decide/member.ts";
import { awayView, nameOf } from "./member-view.ts";
import { collections } from "./state.ts";

/** Who is a member, and how each one is: joins, presence, sockets, goodbyes. */
export class MembershipDesk {
  readonly #context: CoordinatorContext;
  readonly #credentials: ClusterCredentials;
  readonly #notary: Notary;
  readonly #members: Map<string, MemberRecord>;
  /** By peer: what it last showed, and was found to be signed. */
  readonly #shown = new Map<string, { readonly certificate: string; readonly roles: readonly Role[] }>();

  constructor(context: CoordinatorContext, credentials: ClusterCredentials, notary: Notary) {
    this.#context = context;
    this.#credentials = credentials;
    this.#notary = notary;
    const stored = collections.members.readAll(context.store);
    this.#members = new Map(stored.map((member) => [member.peerId, member]));
  }

  /** Every member, present or not, and who is here though the store was restored from before it came. */
  views(): PeerView[] {
    const { peers } = this.#context;
    const members = [...this.#members.values()].filter(({ removedAtMs }) => removedAtMs === null);
    const away = members.filter(({ peerId }) => !peers.get(peerId));
    const here = peers.all().filter(({ hello }) => !this.#isRemoved(hello.peerId));
    return [...here.map((peer) => peers.view(peer)), ...away.map(awayView)];
  }

  /** @throws RingfoldError NOT_FOUND */
  view(peerId: string): PeerView {
    const { peers } = this.#context;
    const [peer, member] = [peers.get(peerId), this.#members.get(peerId)];
    if (peer && !this.#isRemoved(peerId)) return peers.view(peer);
    if (member && !this.#isRemoved(peerId)) return awayView(member);
    throw new RingfoldError("NOT_FOUND", `there is no agent ${peerId}`, { peer: peerId });
  }

  /**
   * Admits a peer by token, or by the membership that it got for one.
   * @throws RingfoldError TOKEN_INVALID | TOKEN_EXPIRED | NOT_A_MEMBER | PROTOCOL_RANGE | DUPLICATE_IDENTITY | MEMBER_REMOVED
   */
  async join(request: JoinRequest, from: string): Promise<JoinResponse> {
    const { peers, store, term, changed } = this.#context;
    const { hello } = request;
    const known = this.#stateOf(from);
    checkHello(hello, from, known.presence);
    const { roles, membership } = known.member ?? (await this.#certify(request, from));
    await this.#decide(from, { kind: "joined", hello, from, roles, certificate: membership });
    const member = collections.members.read(store, from)!;
    peers.admit(hello, roles, member.drainedAtMs !== null);
    changed();
    return {
      membership: member.membership,
      roles: [...roles],
      term,
      clusterName: this.#credentials.authority.clusterName,
    };
  }

  /** @returns whether it is news */
  async hear(presence: Presence, from: string): Promise<boolean> {
    const { peers, holders, network, changed } = this.#context;
    const { hello, membership } = presence;
    const isKnown = peers.get(from) !== undefined;
    if (from !== hello.peerId || (!isKnown && !network.connectedPeers().includes(from))) return false;
    const roles = await this.#rolesOf(from, membership);
    if (!isKnown) {
      // A member of an earlier coordinator that has not noticed the change: its socket was replaced, never closed.
      await this.#decide(from, { kind: "heard", hello, from, roles, certificate: membership });
      const drained = this.#stateOf(from).member?.drainedAtMs ?? null;
      peers.admit(hello, roles, drained !== null);
    }
    if (!peers.hear(presence)) return false;
    holders.hear(from, presence.holdings);
    changed();
    return true;
  }

  /** It is gone from the peer table. */
  forget(peerId: string): void {
    this.#shown.delete(peerId);
  }

  async socketChanged(peerId: string, connected: boolean): Promise<void> {
    const { peers, changed } = this.#context;
    if (!peers.setConnected(peerId, connected)) return;
    if (!connected) await this.#decide(peerId, { kind: "disconnected" });
    changed();
  }

  /** A goodbye: nothing new is given to the peer. Whether it may go is for the desks to say. */
  async leave(peerId: string, detail: string): Promise<void> {
    if (!(await this.#decide(peerId, { kind: "leaving", detail }))) return;
    this.#context.peers.get(peerId)!.leaving = true;
    this.#context.changed();
  }

  /** Takes a machine out of service, or puts it back, whatever its agent does. @throws RingfoldError NOT_FOUND */
  async drain(peerId: string, drained: boolean, detail: string): Promise<void> {
    this.view(peerId);
    const peer = this.#context.peers.get(peerId);
    if (!(await this.#decide(peerId, { kind: drained ? "drained" : "undrained", detail }))) return;
    if (peer) peer.drained = drained;
    this.#context.changed();
  }

  /** For good: its identity is refused from now on. @throws RingfoldError NOT_FOUND */
  async remove(peerId: string, detail: string): Promise<void> {
    this.view(peerId);
    await this.#decide(peerId, { kind: "removed", detail });
    const peer = this.#context.peers.get(peerId);
    if (peer) peer.left = true;
    this.#context.changed();
  }

  async release(peerId: string): Promise<void> {
    if (!(await this.#decide(peerId, { kind: "released" }))) return;
    this.#context.peers.get(peerId)!.left = true;
    this.#context.changed();
  }

  /** Who lives: what the silence of members says, or its end. One entry in the log for all that one look finds. */
  async judge(): Promise<void> {
    const { peers, decisions, changed } = this.#context;
    const judgement = peers.look();
    const { decision } = judgement;
    if (decision) await decisions.commit({ who: { kind: "coordinator" }, ...decision, isNews: true }, []);
    peers.adopt(judgement);
    if (judgement.isChanged) changed();
  }

  /** Whether there was anything to decide; when this resolves, it is durable. */
  async #decide(peerId: string, event: MemberEvent): Promise<boolean> {
    const { clock, decisions } = this.#context;
    const state = this.#stateOf(peerId);
    const decision = decideMember(state, event, clock.nowMs());
    if (!decision) return false;
    const subject = "hello" in event ? event.hello.name : this.#nameOf(peerId);
    const { member, reason, event: told } = decision;
    const writes = member && member !== state.member ? [collections.members.put(peerId, member)] : [];
    const who = whoseWord(event, { peerId, name: subject });
    await decisions.commit({ who, subject, event: told, reason, isNews: true }, writes);
    if (member) this.#members.set(peerId, member);
    return true;
  }

  #isRemoved(peerId: string): boolean {
    return (this.#members.get(peerId)?.removedAtMs ?? null) !== null;
  }

  #nameOf(peerId: string): string {
    const member = this.#members.get(peerId);
    return this.#context.peers.get(peerId)?.hello.name ?? (member ? nameOf(member) : shortPeer(peerId));
  }

  #stateOf(peerId: string): MemberState {
    const { peers, store } = this.#context;
    const peer = peers.get(peerId);
    return {
      member: collections.members.read(store, peerId),
      presence: peer && {
        ...peer,
        isAlive: ["alive", "draining"].includes(peers.state(peer)),
      },
    };
  }

  /**
   * Every beat shows the same certificate, which has no end, and nothing else is decided while one is verified: it is once.
   * @throws RingfoldError TOKEN_INVALID | NOT_A_MEMBER
   */
  async #rolesOf(from: string, certificate: string): Promise<readonly Role[]> {
    const shown = this.#shown.get(from);
    if (shown?.certificate === certificate) return shown.roles;
    const { publicJwk } = this.#credentials.authority;
    const nowMs = this.#context.clock.nowMs();
    const { roles } = await this.#notary.verifyMembership(publicJwk, certificate, from, nowMs);
    if (this.#context.peers.get(from)) this.#shown.set(from, { certificate, roles });
    return roles;
  }

  /** A certificate that this authority signed is believed even if the store was restored from before the join. */
  async #certify(
    { token, membership }: JoinRequest,
    from: string,
  ): Promise<{ readonly roles: readonly Role[]; readonly membership: string }> {
    const { authority } = this.#credentials;
    const nowMs = this.#context.clock.nowMs();
    const { verifyMembership, verifyToken, issueMembership } = this.#notary;
    if (membership) {
      const { roles } = await verifyMembership(authority.publicJwk, membership, from, nowMs);
      return { roles, membership };
    }
    const { role, jti } = await verifyToken(authority.publicJwk, token, nowMs);
    const made = jti === undefined ? undefined : collections.tokens.read(this.#context.store, jti);
    if (made && made.revokedAtMs !== null)
      throw new RingfoldError("TOKEN_INVALID", "the token has been taken back", { token: made.id });
    const roles = [role];
    return { roles, membership: await issueMembership(authority, { peerId: from, roles }) };
  }
}

/** A socket that closes is nobody's word. */
function whoseWord(event: MemberEvent, peer: { readonly peerId: string; readonly name: string }): Decider {
  switch (event.kind) {
    case "disconnected":
      return { kind: "coordinator" };
    case "drained":
    case "undrained":
    case "removed":
      return { kind: "operator" };
    default:
      return { kind: "peer", ...peer };
  }
}
