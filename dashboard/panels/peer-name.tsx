import { shortPeer } from "../../protocol/ids.ts";
import { clipMiddle } from "../format.ts";
import type { Peer } from "../views.ts";

/** A peer's name, or the end of its id once it has left the list. */
export const peerName = (peers: readonly Peer[], peerId: string): string =>
  peers.find((peer) => peer.peerId === peerId)?.name ?? shortPeer(peerId);

/** As `peerName`, cut to fit a small box, with the whole name and id in the tooltip. */
export const PeerName = ({ peers, peerId }: { peers: readonly Peer[]; peerId: string }) => (
  <span class="peer-name" title={`${peerName(peers, peerId)}\n${peerId}`}>
    {clipMiddle(peerName(peers, peerId), 13)}
  </span>
);
