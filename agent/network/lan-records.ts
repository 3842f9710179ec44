import { createHash } from "node:crypto";
import type { BlockList } from "node:net";
import type { Answer, Packet } from "dns-packet";
import { ipv4Host } from "./local-address.ts";

/**
 * The DNS records with which peers name themselves on a LAN: a PTR record from the service to one peer, and a TXT
 * record an address of it. Source: github.com/libp2p/specs, discovery/mdns.md.
 */

export interface LanPeer {
  readonly peerId: string;
  /** Multiaddrs that end in the peer id. */
  readonly addresses: readonly string[];
}

/** RFC 6763, 6.1: one character string of a TXT record. */
const txtBytesMax = 255;
/** Of one packet; a machine has a handful, so more is an attack. */
const addressesMax = 16;
const recordTtlSeconds = 120;

/**
 * The name under which a cluster looks for its own. It is made of the swarm key, not of the cluster's name: two
 * clusters of the default name on one LAN never see each other, and 64 bits of a hash give nothing of the key away.
 */
export function lanServiceTag(swarmKey: string): string {
  const fingerprint = createHash("sha256").update(`ringfold lan\n${swarmKey}`).digest("hex").slice(0, 16);
  return `_ringfold-${fingerprint}._udp.local`;
}

export function lanAnswers(
  serviceTag: string,
  instance: string,
  addresses: readonly string[],
): (Answer & { type: "PTR" | "TXT" })[] {
  const name = `${instance}.${serviceTag}`;
  const common = { class: "IN", ttl: recordTtlSeconds } as const;
  const texts = addresses.map((address) => `dnsaddr=${address}`).filter((text) => text.length <= txtBytesMax);
  return [
    { ...common, type: "PTR", name: serviceTag, data: name },
    ...texts.map((data) => ({ ...common, type: "TXT" as const, name, data })),
  ];
}

/**
 * The peer that a packet names, or undefined. Anybody on the LAN can send one: only addresses on the link itself count,
 * so that a packet cannot make members dial elsewhere; who answers there is for the swarm key to prove.
 */
export function lanPeer(packet: Packet, serviceTag: string, link: BlockList): LanPeer | undefined {
  const records = [...(packet.answers ?? []), ...(packet.additionals ?? [])];
  if (!records.some((record) => record.type === "PTR" && record.name === serviceTag)) return undefined;
  const texts = records
    .filter((record) => record.type === "TXT" && record.name.endsWith(`.${serviceTag}`))
    .flatMap((record) => [(record as { data: unknown }).data].flat())
    .slice(0, addressesMax)
    .map(String);
  const found = texts.flatMap((text) => {
    const match = /^dnsaddr=(\/ip4\/[0-9.]{7,15}\/tcp\/[0-9]{1,5}\/p2p\/([1-9A-HJ-NP-Za-km-z]{40,64}))$/.exec(
      text,
    );
    return match?.[1] && match[2] && isOnLink(match[1], link)
      ? [{ address: match[1], peerId: match[2] }]
      : [];
  });
  const peerId = found[0]?.peerId;
  if (peerId === undefined) return undefined;
  const addresses = found.filter((entry) => entry.peerId === peerId).map(({ address }) => address);
  return { peerId, addresses };
}

/** Whether a multiaddr's IPv4 host lies in the subnet of a link. */
export function isOnLink(address: string, link: BlockList): boolean {
  const host = ipv4Host([address]);
  return host !== undefined && link.check(host);
}
