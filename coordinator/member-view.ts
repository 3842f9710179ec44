import { shortPeer } from "../protocol/ids.ts";
import type { PeerView } from "../protocol/messages/api.ts";
import { capabilitiesSchema } from "../protocol/messages/membership.ts";
import type { MemberRecord } from "./decide/member.ts";

/** What it was when it was here last; members of earlier releases have left nothing behind. */
const unknown = capabilitiesSchema.parse({
  ...{
    hostname: "unknown",
    platform: "unknown",
    cpuModel: "unknown",
    cpuCount: 1,
    memoryBytes: 0,
    gpu: null,
  },
  ...{ engine: "unknown", engineReason: "it has not been here for long", gflops: 0 },
});

/** The same object for the same record: lists are compared item by item. */
const views = new WeakMap<MemberRecord, PeerView>();

/** A member that is not here. */
export function awayView(member: MemberRecord): PeerView {
  const known = views.get(member);
  if (known) return known;
  const { peerId, roles, hello, seenAtMs, admittedAtMs } = member;
  const view: PeerView = {
    ...{ peerId, name: nameOf(member), roles: [...roles], state: "away", flapping: false },
    release: hello?.release ?? "unknown",
    addresses: hello?.addresses ?? [],
    gatewayUrl: null,
    capabilities: hello?.capabilities ?? unknown,
    load: { cpu: 0, residentBytes: 0 },
    links: [],
    lastSeenMs: seenAtMs ?? admittedAtMs,
  };
  views.set(member, view);
  return view;
}

export const nameOf = ({ peerId, hello }: MemberRecord): string =>
  hello?.name ?? `peer-${shortPeer(peerId).toLowerCase()}`;
