import { shortPeer } from "../../protocol/ids.ts";
import {
  formatAge,
  formatBytes,
  formatCount,
  formatLoss,
  formatMoment,
  formatPercent,
  shortDigest,
} from "../format.ts";
import type { Version } from "../views.ts";
import { Empty, Panel, Scroll } from "./panel.tsx";

/** What training has produced: each registered version, its quality, and the job that made it. Newest first. */
export function Versions({ versions, nowMs }: { versions: readonly Version[]; nowMs: number }) {
  const sorted = [...versions].sort((one, other) => other.createdAtMs - one.createdAtMs);
  return (
    <Panel id="versions" title="Versions" summary={versions.length > 0 ? formatCount(versions.length) : null}>
      {versions.length === 0 ? (
        <Empty command="ringfold train JOB.yaml">No versions yet; a job that succeeds registers one.</Empty>
      ) : (
        <Scroll label="Table of versions">
          <table>
            <thead>
              <tr>
                <th scope="col">Version</th>
                <th scope="col" class="number">
                  Accuracy
                </th>
                <th scope="col" class="number wide-only">
                  Loss
                </th>
                <th scope="col" class="number">
                  Size
                </th>
                <th scope="col" class="wide-only">
                  Digest
                </th>
                <th scope="col">Made by</th>
                <th scope="col" class="number middle-only" title="Live peers that hold the weights">
                  Held by
                </th>
              </tr>
            </thead>
            <tbody>
              {sorted.map((version) => (
                <VersionRow key={`${version.name}@${version.version}`} version={version} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </Panel>
  );
}

const VersionRow = ({ version, nowMs }: { version: Version; nowMs: number }) => (
  <tr data-testid="version-row" data-version={`${version.name}@${version.version}`}>
    <th scope="row" title={formatMoment(version.createdAtMs)}>
      <span class="wrap">
        {version.name}@{version.version}
      </span>
      <span class="second">{[...version.aliases, formatAge(nowMs - version.createdAtMs)].join(", ")}</span>
    </th>
    <td class="number">{formatPercent(version.accuracy)}</td>
    <td class="number wide-only">{formatLoss(version.loss)}</td>
    <td class="number">
      {formatBytes(version.weightsBytes)}
      <span class="second">{formatCount(version.parameterCount)} par.</span>
    </td>
    <td class="wide-only">
      <code title={version.digest}>{shortDigest(version.digest)}</code>
    </td>
    <td>
      <a href={`#${version.jobId}`}>{version.jobId}</a>
      <span class="second" data-testid="version-signers" title={version.signers.join("\n")}>
        {version.signers.length > 0 ? `signed by ${version.signers.map(shortPeer).join(", ")}` : "unsigned"}
      </span>
    </td>
    <td class="number middle-only" data-tone={version.holders.length === 0 ? "bad" : undefined}>
      {version.holders.length}
    </td>
  </tr>
);
