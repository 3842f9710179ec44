import { gossipsub } from "@chainsafe/libp2p-gossipsub";
import { autoNAT } from "@libp2p/autonat";
import { circuitRelayServer, circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { dcutr } from "@libp2p/dcutr";
import { identify } from "@libp2p/identify";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { kadDHT, passthroughMapper } from "@libp2p/kad-dht";
import { noise } from "@libp2p/noise";
import { peerIdFromString } from "@libp2p/peer-id";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { ClusterNetwork, Log } from "../../protocol/ports.ts";
import { createGossip } from "./gossip.ts";
import { openLanDiscovery } from "./lan-discovery.ts";
import { lanServiceTag } from "./lan-records.ts";
import { ipv4Host, isLoopback } from "./local-address.ts";
import { trustInterfaceAddresses, withoutLoopback } from "./own-addresses.ts";
import { createRequester, registerHandler } from "./request.ts";
import { protectSwarm } from "./swarm-protector.ts";

export interface NetworkOptions {
  readonly privateKey: Ed25519PrivateKey;
  /** libp2p pre-shared key file, as text: nobody without it gets past the first byte. */
  readonly swarmKey: string;
  /** Where to listen; port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Relay for members behind NAT; the coordinator and willing agents. */
  readonly relay: boolean;
  readonly log: Log;
}

const yamuxWindowBytes = 16 * 1024 * 1024;
const yamuxMessageBytes = 1024 * 1024;
/** Dials to discovered peers at one time: a flood of false names must not fill the dial queue of libp2p. */
const diallingMax = 16;

export interface Libp2pNetwork extends ClusterNetwork {
  /** IPv4 host at the other end of the socket to a connected peer. */
  remoteHost(peerId: string): string | undefined;
}

/**
 * The libp2p node of an agent or a coordinator: private to its cluster by the swarm key, found by mDNS on a LAN and
 * by the DHT across networks.
 * @throws RingfoldError PORT_IN_USE
 */
export async function openNetwork(options: NetworkOptions): Promise<Libp2pNetwork> {
  const { log } = options;
  const node = await startNode(options);
  const closed = new AbortController();
  const dialling = new Set<string>();

  // Members keep a connection to each other: gossip and predictions need one, and a socket that closes is the fastest
  // news of a death. Bounded; beyond that the DHT finds the rest when they are asked.
  const meet = (peerId: string, addresses: readonly Multiaddr[]): void => {
    const id = peerIdFromString(peerId);
    if (dialling.size >= diallingMax || dialling.has(peerId) || node.getConnections(id).length > 0) return;
    if (id.equals(node.peerId)) return;
    dialling.add(peerId);
    const signal = AbortSignal.any([closed.signal, AbortSignal.timeout(limits.dialTimeoutMs)]);
    node
      .dial(addresses.length > 0 ? [...addresses] : id, { signal })
      .catch((error) => log.debug({ err: error, peer: peerId }, "Discovered a peer that cannot be dialled"))
      .finally(() => dialling.delete(peerId));
  };
  // Coordinators share a key, so two connections to one peer may lead to two processes. When one ends, the others are given up
  // with it: else nobody would hear that whoever took this member in is gone, and gossip, whose stream ran there, would end.
  node.addEventListener("connection:close", ({ detail: { direct, remotePeer } }) => {
    if (direct && node.getConnections(remotePeer).some((other) => other.direct))
      node.hangUp(remotePeer).catch((error) => log.debug({ err: error, peer: remotePeer }, "Cannot hang up"));
  });
  node.addEventListener("peer:discovery", ({ detail: { id } }) => meet(id.toString(), []));
  // Nobody on a LAN can reach a loopback listener, so it is not announced there.
  const lan = isLoopback(options.listen.host)
    ? undefined
    : openLanDiscovery({
        serviceTag: lanServiceTag(options.swarmKey),
        listenHost: options.listen.host,
        addresses: () => node.getMultiaddrs().map(String),
        onPeer: ({ peerId, addresses }) => {
          try {
            meet(
              peerId,
              addresses.map((address) => multiaddr(address)),
            );
          } catch (error) {
            log.debug({ err: error, peer: peerId }, "A packet on the LAN names no peer");
          }
        },
        log,
      });

  return {
    peerId: node.peerId.toString(),
    addresses: () => node.getMultiaddrs().map(String),
    request: createRequester(node),
    handle: (conversation, handler) => {
      void registerHandler(node, conversation, handler, { log, closed: closed.signal });
    },
    ...createGossip(node.services.pubsub, log),
    connect: async (addresses, signal) => {
      try {
        const connection = await node.dial(
          addresses.map((address) => multiaddr(address)),
          { signal },
        );
        return connection.remotePeer.toString();
      } catch (cause) {
        throw new RingfoldError(
          "PEER_UNREACHABLE",
          `cannot reach ${addresses.join(" or ")}`,
          { addresses },
          { cause },
        );
      }
    },
    connectedPeers: () => node.getPeers().map(String),
    remoteHost: (peerId) => {
      const connections = node.getConnections(peerIdFromString(peerId));
      const { remoteAddr } = connections.find(({ direct }) => direct) ?? connections[0] ?? {};
      return remoteAddr && ipv4Host([remoteAddr.toString()]);
    },
    onConnection: (listener) => {
      node.addEventListener("peer:connect", ({ detail }) =>
        listener({ peerId: detail.toString(), connected: true }),
      );
      node.addEventListener("peer:disconnect", ({ detail }) =>
        listener({ peerId: detail.toString(), connected: false }),
      );
    },
    close: async () => {
      closed.abort();
      await lan?.close();
      await node.stop();
    },
  };
}

async function startNode({ privateKey, swarmKey, listen, relay }: NetworkOptions) {
  try {
    return await createLibp2p({
      privateKey,
      connectionProtector: protectSwarm(swarmKey),
      addresses: { listen: [`/ip4/${listen.host}/tcp/${listen.port}`], announceFilter: withoutLoopback },
      transports: [tcp(), circuitRelayTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [
        yamux({
          maxMessageSize: yamuxMessageBytes,
          streamOptions: { maxStreamWindowSize: yamuxWindowBytes, initialStreamWindowSize: yamuxWindowBytes },
        }),
      ],
      services: {
        identify: identify(),
        ping: ping(),
        pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, floodPublish: true }),
        dht: kadDHT({
          protocol: "/ringfold/kad/1.0.0",
          clientMode: false,
          peerInfoMapper: passthroughMapper, // a cluster lives on private addresses
          allowQueryWithZeroPeers: true,
        }),
        ownAddresses: trustInterfaceAddresses,
        autoNat: autoNAT(),
        dcutr: dcutr(),
        ...(relay ? { relay: circuitRelayServer({ reservations: { applyDefaultLimit: false } }) } : {}),
      },
    });
  } catch (cause) {
    const messages = [cause, ...(cause instanceof AggregateError ? cause.errors : [])].map(String).join(" ");
    if (messages.includes("EADDRINUSE") || messages.includes("UnsupportedListenAddresses")) {
      throw new RingfoldError(
        "PORT_IN_USE",
        `cannot listen on ${listen.host}:${listen.port}`,
        { ...listen },
        { cause },
      );
    }
    throw toRingfoldError(cause, "CONFIG_INVALID");
  }
}
