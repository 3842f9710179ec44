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
                <th scope="col" class="number roomy-only">
                  Loss
                </th>
                <th scope="col" class="number">
                  Size
                </th>
                <th scope="col" class="roomy-only">
                  Digest
                </th>
                <th scope="col">Made by</th>
                <th
                  scope="col"
                  class="number middle-only"
                  title="Live peers that hold the weights, of so many as should"
                >
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

/** As many as sixteen have signed: the first of them, and all where the pointer rests. */
const signedText = ({ signers: [first, ...others] }: Version) => {
  if (first === undefined) return "unsigned";
  return `signed by ${shortPeer(first)}${others.length > 0 ? ` +${others.length}` : ""}`;
};

const heldTone = ({ holders, replicasWanted }: Version) =>
  holders.length === 0 ? "bad" : holders.length < replicasWanted ? "warn" : undefined;

const VersionRow = ({ version, nowMs }: { version: Version; nowMs: number }) => (
  <tr data-testid="version-row" data-version={`${version.name}@${version.version}`}>
    <th scope="row" title={formatMoment(version.createdAtMs)}>
      <span class="wrap whole">
        {version.name}@{version.version}
      </span>
      <span class="second">{[...version.aliases, formatAge(nowMs - version.createdAtMs)].join(", ")}</span>
    </th>
    <td class="number">{formatPercent(version.accuracy)}</td>
    <td class="number roomy-only">{formatLoss(version.loss)}</td>
    <td class="number">
      {formatBytes(version.weightsBytes)}
      <span class="second roomy-only">{formatCount(version.parameterCount)} par.</span>
    </td>
    <td class="roomy-only">
      <code title={version.digest}>{shortDigest(version.digest)}</code>
    </td>
    <td>
      <a href={`#${version.jobId}`}>{version.jobId}</a>
      <span class="second" data-testid="version-signers" title={version.signers.join("\n")}>
        {signedText(version)}
      </span>
    </td>
    <td
      class="number middle-only"
      data-testid="version-holders"
      data-tone={heldTone(version)}
      title={version.holders.map(shortPeer).join("\n")}
    >
      {version.holders.length} of {version.replicasWanted}
    </td>
  </tr>
);
