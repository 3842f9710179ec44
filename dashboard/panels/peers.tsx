import { largestGpu } from "../../protocol/messages/membership.ts";
import { labelText } from "../../protocol/needs.ts";
import { formatAge, formatBytes, formatPercent, formatRate, unknown } from "../format.ts";
import type { Peer } from "../views.ts";
import { Empty, Panel, Scroll } from "./panel.tsx";
import { countStates, StateBadge } from "./state-badge.tsx";

const byName = new Intl.Collator("en", { numeric: true });

/** Every machine of the cluster: is it there, what computes on it, how busy it is. */
export function Peers({ peers, nowMs }: { peers: readonly Peer[]; nowMs: number }) {
  const sorted = [...peers].sort((one, other) => byName.compare(one.name, other.name));
  return (
    <Panel
      id="peers"
      title="Peers"
      summary={countStates(peers, ["alive", "draining", "suspect", "dead", "left", "away"])}
    >
      {peers.length === 0 ? (
        <Empty command="ringfold agent --join TOKEN">
          No peers yet. <code>ringfold token</code> makes the token.
        </Empty>
      ) : (
        <Scroll label="Table of peers">
          <table class="peers">
            <thead>
              <tr>
                <th scope="col">Peer</th>
                <th scope="col">State</th>
                <th scope="col">Engine</th>
                <th scope="col" class="number wide-only" title="Measured at start">
                  GFLOP/s
                </th>
                <th scope="col" class="number" title="Share of one core: 200% is two cores">
                  CPU
                </th>
                <th scope="col" class="number wide-only">
                  Memory
                </th>
                <th scope="col" class="number middle-only">
                  Seen
                </th>
              </tr>
            </thead>
            <tbody>
              {sorted.map((peer) => (
                <PeerRow key={peer.peerId} peer={peer} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </Panel>
  );
}

/** Null where nothing is known of any. */
function gpuText({ gpus, gpu }: Peer["capabilities"]): string | null {
  const largest = largestGpu(gpus);
  if (!largest) return gpu;
  const count = gpus.length === 1 ? "" : ` and ${gpus.length - 1} more`;
  return `${largest.name}${largest.memoryBytes === null ? "" : `, ${formatBytes(largest.memoryBytes)}`}${count}`;
}

const PeerRow = ({ peer, nowMs }: { peer: Peer; nowMs: number }) => {
  const { capabilities, load } = peer;
  const present = !["dead", "left", "away"].includes(peer.state);
  return (
    <tr
      data-testid="peer-row"
      data-peer-id={peer.peerId}
      data-state={peer.state}
      class={present ? "" : "gone"}
    >
      <th scope="row" title={[peer.name, peer.peerId, ...peer.addresses].join("\n")}>
        <span class="wrap">{peer.name}</span>
        <span class="second clip">
          {[...peer.roles, labelText(capabilities.labels)].filter(Boolean).join(", ") || "no role"}
        </span>
      </th>
      <td>
        <StateBadge state={peer.state} />
      </td>
      <td title={capabilities.engineReason}>
        <span class="clip">{capabilities.engine}</span>
        <span class="second clip">
          {gpuText(capabilities) ?? `${capabilities.cpuCount} × ${capabilities.cpuModel}`}
        </span>
      </td>
      <td class="number wide-only">{formatRate(capabilities.gflops)}</td>
      <td class="number">{present ? formatPercent(load.cpu, 0) : unknown}</td>
      <td class="number wide-only" title={`of ${formatBytes(capabilities.memoryBytes)}`}>
        {present ? formatBytes(load.residentBytes) : unknown}
      </td>
      <td class="number middle-only">{formatAge(nowMs - peer.lastSeenMs)}</td>
    </tr>
  );
};
