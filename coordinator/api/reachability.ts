import { timingSafeEqual } from "node:crypto";
import { connect } from "node:net";
import { getConnInfo } from "@hono/node-server/conninfo";
import type { Context } from "hono";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Observed, ReachabilityRequest, ReachabilityView } from "../../protocol/messages/api.ts";

/** How the coordinator sees whoever asks: what `ringfold doctor` cannot find out by itself. */

/** @param addresses of the coordinator's own libp2p node */
export function observe(c: Context, addresses: readonly string[]): Observed {
  const { address = "", port = 0 } = getConnInfo(c).remote;
  return { address: plainIpv4(address), port, nowMs: Date.now(), addresses: [...addresses] };
}

/**
 * Dials the machine that asks, and no other: at the address that its request came from. It proves itself by the challenge.
 * @returns how far it came, and why no further; it never throws for what the network does
 */
export async function dialBack(
  c: Context,
  { port, challenge }: ReachabilityRequest,
): Promise<ReachabilityView> {
  const host = plainIpv4(getConnInfo(c).remote.address ?? "");
  if (host === "") throw new RingfoldError("REQUEST_INVALID", "the request came from no address");
  const socket = connect({ host, port });
  const { promise, resolve } = Promise.withResolvers<ReachabilityView>();
  const end = (reached: boolean, detail: string) => resolve({ address: host, port, reached, detail });
  const timer = setTimeout(end, limits.dialTimeoutMs, false, "no answer in time");
  const expected = Buffer.from(challenge);
  let received = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    received = Buffer.concat([received, bytes]).subarray(0, expected.length);
    if (received.length < expected.length) return;
    const isIt = timingSafeEqual(received, expected);
    end(isIt, isIt ? "connected" : "another program answers there");
  });
  socket.on("error", (error: NodeJS.ErrnoException) => end(false, error.code ?? error.message));
  socket.on("end", () => end(false, "another program answers there"));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** A socket for both families writes an IPv4 address as ::ffff:10.0.0.7. */
const plainIpv4 = (address: string): string => address.replace(/^::ffff:/, "");
