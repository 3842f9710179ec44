import { createSocket } from "node:dgram";
import { once } from "node:events";

/**
 * The address of this machine that members dial: the one that faces the first of `hosts` that is on another link than
 * loopback. When all of them are loopback the whole cluster is on this machine, and so is the answer.
 *
 * @param hosts IPv4 hosts of the coordinator, the likeliest first
 */
export async function localAddressFacing(hosts: readonly string[]): Promise<string> {
  for (const host of hosts.filter((each) => !isLoopback(each))) {
    const address = await localAddressTowards(host).catch(() => undefined); // no route there: ask for the next one
    if (address !== undefined) return address;
  }
  return "127.0.0.1";
}

/** What the operating system would put on a packet to `host`. Connecting a UDP socket sends nothing. */
async function localAddressTowards(host: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.connect(9, host);
    await once(socket, "connect");
    return socket.address().address;
  } finally {
    socket.close();
  }
}

export const isLoopback = (host: string): boolean => host.startsWith("127.");

/** First IPv4 host among multiaddrs such as /ip4/10.0.0.7/tcp/7071. */
export const ipv4Host = (addresses: readonly string[]): string | undefined => ipv4Hosts(addresses)[0];

export const ipv4Hosts = (addresses: readonly string[]): string[] =>
  addresses.flatMap((address) => /^\/ip4\/([0-9.]+)\//.exec(address)?.[1] ?? []);
