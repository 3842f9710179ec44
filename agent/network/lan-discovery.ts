import { randomBytes } from "node:crypto";
import { BlockList } from "node:net";
import { networkInterfaces } from "node:os";
import multicastDns from "multicast-dns";
import type { Log } from "../../protocol/ports.ts";
import { isOnLink, type LanPeer, lanAnswers, lanPeer } from "./lan-records.ts";

export interface LanDiscoveryOptions {
  /** Peers of one tag find each other. */
  readonly serviceTag: string;
  /** Where the node listens; 0.0.0.0 is every interface. */
  readonly listenHost: string;
  /** Multiaddrs of this node, each with its peer id at the end. */
  readonly addresses: () => readonly string[];
  /** Called for each answer, so again and again for one peer. */
  readonly onPeer: (peer: LanPeer) => void;
  readonly log: Log;
}

/** A machine with containers has bridges by the dozen, and none of those leads to another machine. */
const linksMax = 16;

interface Link {
  readonly subnet: BlockList;
  readonly mdns: multicastDns.MulticastDNS;
  /** An answer that is about to be sent; questions that come meanwhile share it. */
  answer: NodeJS.Timeout | undefined;
  readonly onSent: (error?: Error | null) => void;
}

/** RFC 6762, 5.2: the second question after a second, each next one after twice as long, up to a bound. */
const queryIntervalMs = { first: 1_000, most: 10_000 } as const;
/** RFC 6762, 6: many may answer the same question, so each waits a random while. */
const answerDelayMs = { least: 20, spread: 100 } as const;

/**
 * Finds the peers of a cluster on every link of this machine, by mDNS.
 *
 * @libp2p/mdns lost here: it has one socket without an interface, so the kernel asks the routing table where multicast
 * goes. Without a default route (a switch in a laboratory) nothing is ever sent, without an error, and with two links
 * only one is asked. It also keeps quiet about public addresses, and libp2p reports a peer once only, so that one which
 * moved or could not be dialled at first stayed lost.
 *
 * Cost: a packet of some 250 bytes a link every 10 s, and as much for each question heard.
 */
export function openLanDiscovery(options: LanDiscoveryOptions): { close(): Promise<void> } {
  const { log } = options;
  const links = new Map<string, Link>();
  const instance = randomBytes(16).toString("hex");
  let delayMs: number = queryIntervalMs.first;
  let timer: NodeJS.Timeout | undefined;

  const respond = (link: Link): void => {
    link.answer = undefined;
    const addresses = options.addresses().filter((address) => isOnLink(address, link.subnet));
    if (addresses.length > 0)
      link.mdns.respond(lanAnswers(options.serviceTag, instance, addresses), link.onSent);
  };
  const open = (address: string, subnet: BlockList): Link => {
    // Bound to every address: a socket bound to one of them gets no multicast on Linux.
    const mdns = multicastDns({ interface: address, bind: "0.0.0.0" });
    let troubled = false;
    const onTrouble = (error: Error): void => {
      // Only the first time: it is tried again every few seconds.
      const level = "syscall" in error && !troubled ? "warn" : "debug"; // anybody can send a packet that is not DNS
      troubled ||= level === "warn";
      log[level]({ err: error, address }, "mDNS has trouble here; addresses in tokens do not need it");
    };
    mdns.on("warning", onTrouble).on("error", onTrouble);
    const link: Link = { mdns, subnet, answer: undefined, onSent: (error) => error && onTrouble(error) };
    // Each socket hears the packets of all links; RFC 6762, 11: what comes from another link is not for this one.
    mdns.on("query", ({ questions }, { address: from }) => {
      if (!subnet.check(from) || !questions?.some(({ name }) => name === options.serviceTag)) return;
      link.answer ??= setTimeout(respond, answerDelayMs.least + Math.random() * answerDelayMs.spread, link);
    });
    mdns.on("response", (packet, { address: from }) => {
      const peer = subnet.check(from) ? lanPeer(packet, options.serviceTag, subnet) : undefined;
      if (peer) options.onPeer(peer);
    });
    return link;
  };
  const ask = (): void => {
    const present = localSubnets(options.listenHost);
    for (const [address, link] of links) {
      if (present.has(address)) continue;
      links.delete(address);
      void closeLink(link);
    }
    for (const [address, subnet] of present) {
      if (links.has(address) || links.size >= linksMax) continue;
      links.set(address, open(address, subnet));
      delayMs = queryIntervalMs.first;
    }
    for (const { mdns, onSent } of links.values())
      mdns.query([{ name: options.serviceTag, type: "PTR" }], onSent);
    timer = setTimeout(ask, delayMs);
    delayMs = Math.min(queryIntervalMs.most, 2 * delayMs);
  };
  ask();
  // Unasked, so that those who are here already find the newcomer at once.
  for (const link of links.values()) respond(link);

  return {
    close: async () => {
      clearTimeout(timer);
      await Promise.all([...links.values()].map(closeLink));
      links.clear();
    },
  };
}

async function closeLink({ answer, mdns }: Link): Promise<void> {
  clearTimeout(answer);
  await new Promise<void>((resolve) => mdns.destroy(resolve));
}

/** The subnet of each IPv4 address on which a node with this listening host is reached from other machines. */
function localSubnets(listenHost: string): Map<string, BlockList> {
  const subnets = new Map<string, BlockList>();
  for (const { family, internal, address, cidr } of Object.values(networkInterfaces()).flatMap(
    (all) => all ?? [],
  )) {
    if (family !== "IPv4" || internal || (listenHost !== "0.0.0.0" && listenHost !== address)) continue;
    const subnet = new BlockList();
    subnet.addSubnet(address, Number(cidr?.split("/")[1] ?? 32));
    subnets.set(address, subnet);
  }
  return subnets;
}
