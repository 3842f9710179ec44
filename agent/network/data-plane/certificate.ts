import { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import tls from "node:tls";
import { peerIdFromString } from "@libp2p/peer-id";
import { verifyPeerCertificate } from "@libp2p/tls/utils";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { Clock } from "../../../protocol/ports.ts";

/**
 * The peer id that the TLS certificate proves, or undefined on plain TCP.
 * @param expected who it must be; anyone when undefined
 * @throws RingfoldError PEER_IDENTITY
 */
export async function certifiedPeer(
  socket: Socket,
  { expected, clock }: { readonly expected: string | undefined; readonly clock: Clock },
): Promise<string | undefined> {
  if (!(socket instanceof tls.TLSSocket)) return undefined;
  const { raw } = socket.getPeerCertificate();
  const who = expected === undefined ? "a dialling peer" : expected;
  try {
    if (!raw) throw new Error("no certificate");
    refuseOutOfTime(raw, { who, peer: expected, nowMs: clock.nowMs() });
    return (
      await verifyPeerCertificate(raw, expected === undefined ? undefined : peerIdFromString(expected))
    ).toString();
  } catch (cause) {
    if (cause instanceof RingfoldError) throw cause;
    throw new RingfoldError(
      "PEER_IDENTITY",
      `${who} did not prove its identity`,
      { peer: expected ?? null, reason: cause instanceof Error ? cause.name : null },
      { cause },
    );
  }
}

/** libp2p dates certificates back by an hour, so clocks that differ by less than that do not come here. */
function refuseOutOfTime(
  raw: Buffer,
  { who, peer, nowMs }: { readonly who: string; readonly peer: string | undefined; readonly nowMs: number },
): void {
  const { validFromDate, validToDate } = new X509Certificate(raw);
  const isEarly = nowMs < validFromDate.getTime();
  if (!isEarly && nowMs <= validToDate.getTime()) return;
  const [text, reason, date] = isEarly
    ? ["is not valid before", "not yet valid", validFromDate]
    : ["expired at", "expired", validToDate];
  throw new RingfoldError("PEER_IDENTITY", `the certificate of ${who} ${text} ${date.toISOString()}`, {
    ...{ peer: peer ?? null, reason },
    remedy: "Check the clocks of both machines, then restart the agent: it makes a new certificate.",
  });
}
