import { gossipsub } from "@chainsafe/libp2p-gossipsub";
import { autoNAT } from "@libp2p/autonat";
import { circuitRelayServer, circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { dcutr } from "@libp2p/dcutr";
import { identify } from "@libp2p/identify";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { kadDHT, passthroughMapper } from "@libp2p/kad-dht";
import { mdns } from "@libp2p/mdns";
import { noise } from "@libp2p/noise";
import { ping } from "@libp2p/ping";
import { preSharedKey } from "@libp2p/pnet";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { ClusterNetwork, Log } from "../../protocol/ports.ts";
import { createGossip } from "./gossip.ts";
import { createRequester, registerHandler } from "./request.ts";

export interface NetworkOptions {
  readonly privateKey: Ed25519PrivateKey;
  /** libp2p pre-shared key file, as text: nobody without it gets past the first byte. */
  readonly swarmKey: string;
  readonly clusterName: string;
  /** Where to listen; port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Relay for members behind NAT; the coordinator and willing agents. */
  readonly relay: boolean;
  readonly log: Log;
}

const yamuxWindowBytes = 16 * 1024 * 1024;
const yamuxMessageBytes = 1024 * 1024;

/**
 * The libp2p node of an agent or a coordinator: private to its cluster by the swarm key, found by mDNS on a LAN and
 * by the DHT across networks.
 * @throws RingfoldError PORT_IN_USE
 */
export async function openNetwork(options: NetworkOptions): Promise<ClusterNetwork> {
  const { log } = options;
  const node = await startNode(options);
  const closed = new AbortController();
  const dialling = new Set<string>();

  // Members keep a connection to each other: gossip and predictions need one, and a socket that closes is the fastest
  // news of a death. Bounded; beyond that the DHT finds the rest when they are asked.
  node.addEventListener("peer:discovery", ({ detail: { id } }) => {
    const peerId = id.toString();
    if (dialling.size >= 16 || dialling.has(peerId) || node.getConnections(id).length > 0) return;
    dialling.add(peerId);
    node
      .dial(id, { signal: AbortSignal.any([closed.signal, AbortSignal.timeout(limits.dialTimeoutMs)]) })
      .catch((error) => log.debug({ err: error, peer: peerId }, "Discovered a peer that cannot be dialled"))
      .finally(() => dialling.delete(peerId));
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
      await node.stop();
    },
  };
}

async function startNode({ privateKey, swarmKey, clusterName, listen, relay }: NetworkOptions) {
  // Nobody on a LAN can reach a loopback listener, so it is not announced there.
  const onLan = !listen.host.startsWith("127.");
  try {
    return await createLibp2p({
      privateKey,
      connectionProtector: preSharedKey({ psk: new TextEncoder().encode(swarmKey) }),
      addresses: { listen: [`/ip4/${listen.host}/tcp/${listen.port}`] },
      transports: [tcp(), circuitRelayTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [
        yamux({
          maxMessageSize: yamuxMessageBytes,
          streamOptions: { maxStreamWindowSize: yamuxWindowBytes, initialStreamWindowSize: yamuxWindowBytes },
        }),
      ],
      peerDiscovery: onLan
        ? [mdns({ serviceTag: `_ringfold-${clusterName}._udp.local`, interval: 5_000 })]
        : [],
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
