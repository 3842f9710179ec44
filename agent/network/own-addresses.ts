import type { Libp2pEvents, Listener, TypedEventTarget } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";
import { ipv4Host, isLoopback } from "./local-address.ts";

/** The parts of libp2p that its services are given and that are needed here. */
interface Components {
  readonly events: TypedEventTarget<Libp2pEvents>;
  readonly addressManager: {
    confirmObservedAddr(address: Multiaddr, options: { readonly type: "transport" }): void;
  };
}

/**
 * libp2p tells nobody about a public address until several strangers have dialled it back. A cluster has no strangers,
 * and an address of this machine's own interface needs no proof: without this, a coordinator on a public address would
 * make tokens that lead nowhere.
 */
export function trustInterfaceAddresses({ events, addressManager }: Components): object {
  events.addEventListener("transport:listening", ({ detail: listener }: CustomEvent<Listener>) => {
    for (const address of listener.getAddrs()) {
      if (ipv4Host([address.toString()]) === undefined) continue; // relayed addresses come and go by themselves
      addressManager.confirmObservedAddr(address, { type: "transport" });
    }
  });
  return {};
}

/**
 * What other machines may dial. On another machine a loopback address is that machine's own, where anything may
 * listen; it is told only by a node that has no other.
 */
export function withoutLoopback(addresses: Multiaddr[]): Multiaddr[] {
  const reachable = addresses.filter((address) => !isLoopback(ipv4Host([address.toString()]) ?? ""));
  return reachable.length > 0 ? reachable : addresses;
}
