import { createSocket } from "node:dgram";
import { once } from "node:events";

/**
 * The address of this machine that reaches `host`: what the operating system would put on a packet. Connecting a UDP
 * socket sends nothing.
 */
export async function localAddressTowards(host: string): Promise<string> {
  const socket = createSocket("udp4");
  try {
    socket.connect(9, host);
    await once(socket, "connect");
    return socket.address().address;
  } finally {
    socket.close();
  }
}

/** First IPv4 host among multiaddrs such as /ip4/10.0.0.7/tcp/7071. */
export function ipv4Host(addresses: readonly string[]): string | undefined {
  return addresses
    .map((address) => /^\/ip4\/([0-9.]+)\//.exec(address)?.[1])
    .find((host) => host !== undefined);
}
