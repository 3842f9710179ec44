import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import { peerIdSchema, type Role, roleSchema } from "../../protocol/ids.ts";
import type { AuditEvent } from "../../protocol/messages/audit.ts";
import { type Hello, helloSchema, protocolRange } from "../../protocol/messages/membership.ts";

export const memberRecordSchema = z.object({
  peerId: peerIdSchema,
  roles: z.array(roleSchema),
  membership: z.string(),
  admittedAtMs: z.number(),
  /** An operator has taken it out of service, through all of its lives, until one puts it back. */
  drainedAtMs: z.number().nullable().default(null),
  /** An operator has removed it: its identity is refused from then on. */
  removedAtMs: z.number().nullable().default(null),
  /** What it said of itself when it began its last life, and when that was: it is shown while it is away. */
  hello: helloSchema.nullable().default(null),
  seenAtMs: z.number().nullable().default(null),
});
export type MemberRecord = z.infer<typeof memberRecordSchema>;

/** What is known of a peer: its record, and how its present life stands. */
export interface MemberState {
  readonly member: MemberRecord | undefined;
  readonly presence: MemberPresence | undefined;
}
interface MemberPresence {
  readonly hello: Hello;
  readonly isAlive: boolean;
  /** Its last socket has closed since it joined: who connects now may be its next life. */
  readonly parted: boolean;
  readonly leaving: boolean;
  readonly left: boolean;
}

export type MemberEvent =
  /** `certificate`: what it shows, or was given for its token just now. */
  | {
      readonly kind: "joined" | "heard";
      readonly hello: Hello;
      readonly from: string;
      readonly roles: readonly Role[];
      readonly certificate: string;
    }
  | { readonly kind: "disconnected" }
  /** An operator's. */
  | { readonly kind: "drained" | "undrained" | "removed"; readonly detail: string }
  | { readonly kind: "leaving"; readonly detail: string }
  | { readonly kind: "released" };

/** `event`: as the log tells it. Undefined when there is nothing to decide: it is known already. */
export interface MemberDecision {
  readonly member: MemberRecord | undefined;
  readonly event: AuditEvent;
  readonly reason: string;
}

/**
 * Who is a member: (what is known of the peer, event, now) -> its record and the reason, or a refusal.
 * @throws RingfoldError NOT_A_MEMBER | PROTOCOL_RANGE | DUPLICATE_IDENTITY | MEMBER_REMOVED
 */
export function decideMember(
  { member, presence }: MemberState,
  event: MemberEvent,
  nowMs: number,
): MemberDecision | undefined {
  switch (event.kind) {
    case "joined":
    case "heard": {
      checkHello(event.hello, event.from, presence);
      checkNotRemoved(event.hello, member);
      if (presence?.hello.incarnation === event.hello.incarnation && member) return undefined;
      const { engine } = event.hello.capabilities;
      const { incarnation } = event.hello;
      const known = event.kind === "heard" ? member : (member ?? newMember(event, nowMs));
      const kept = known && { ...known, hello: event.hello, seenAtMs: nowMs };
      const how = event.kind === "heard" ? "is here" : presence ? "returned" : "joined";
      const told: AuditEvent =
        event.kind === "heard"
          ? { kind: "member-heard", engine, incarnation }
          : { kind: "member-joined", engine, incarnation, roles: [...event.roles] };
      return { member: kept, event: told, reason: `${how}: ${engine} engine` };
    }
    case "disconnected":
      if (!presence || presence.left) return undefined;
      return { member, event: { kind: "member-disconnected" }, reason: "connection closed" };
    case "leaving":
      if (!presence || presence.leaving) return undefined;
      return {
        member,
        event: { kind: "member-leaving", detail: event.detail },
        reason: `wants to leave: ${event.detail}`,
      };
    case "drained":
    case "undrained": {
      const isDrained = event.kind === "drained";
      if (!member || isDrained === (member.drainedAtMs !== null)) return undefined;
      const what = isDrained ? "out of service" : "back in service";
      return {
        member: { ...member, drainedAtMs: isDrained ? nowMs : null },
        event: { kind: `member-${event.kind}`, detail: event.detail },
        reason: event.detail === "" ? what : `${what}: ${event.detail}`,
      };
    }
    case "removed": {
      if (!member || member.removedAtMs !== null) return undefined;
      const { detail } = event;
      return {
        member: { ...member, removedAtMs: nowMs },
        event: { kind: "member-removed", detail },
        reason: detail === "" ? "removed" : `removed: ${detail}`,
      };
    }
    case "released":
      if (!presence || presence.left) return undefined;
      return { member, event: { kind: "member-released" }, reason: "left" };
  }
}

const newMember = (
  { from, roles, certificate }: Extract<MemberEvent, { kind: "joined" | "heard" }>,
  nowMs: number,
): MemberRecord => ({
  peerId: from,
  roles: [...roles],
  membership: certificate,
  admittedAtMs: nowMs,
  drainedAtMs: null,
  removedAtMs: null,
  hello: null,
  seenAtMs: null,
});

/**
 * Whether a peer that speaks so may be a member at all: before anything is signed for it.
 * @throws RingfoldError NOT_A_MEMBER | PROTOCOL_RANGE | DUPLICATE_IDENTITY
 */
export function checkHello(hello: Hello, from: string, presence: MemberPresence | undefined): void {
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
  checkOneLife(hello, presence);
}

function checkNotRemoved({ peerId, name }: Hello, member: MemberRecord | undefined): void {
  if (member && member.removedAtMs !== null)
    throw new RingfoldError("MEMBER_REMOVED", `${name} was removed from this cluster`, { peer: peerId });
}

/**
 * Two lives of one identity at the same time are a copied data folder. A restart is not that: the sockets of the old
 * life close with its process, and when the network ate that news, the old life falls silent.
 */
function checkOneLife({ peerId, incarnation, capabilities }: Hello, known: MemberPresence | undefined): void {
  if (!known || known.parted || known.hello.incarnation === incarnation || !known.isAlive) return;
  const { name, capabilities: theirs } = known.hello;
  throw new RingfoldError(
    "DUPLICATE_IDENTITY",
    `${name} on ${theirs.hostname} runs with this identity already`,
    { peer: peerId, name, hostname: theirs.hostname, refused: capabilities.hostname },
  );
}
