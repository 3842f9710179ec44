import { formatCount, formatDuration, unknown } from "../format.ts";
import type { Sweep } from "../views.ts";
import { Panel, Scroll } from "./panel.tsx";
import { countStates, StateBadge } from "./state-badge.tsx";

const stateOrder = ["running", "succeeded", "cancelled", "failed"];

/** Searches for hyper-parameters, newest first: how far each is and which trial leads. `ringfold sweeps show` has the trials. */
export function Sweeps({ sweeps, nowMs }: { sweeps: readonly Sweep[]; nowMs: number }) {
  if (sweeps.length === 0) return null;
  return (
    <Panel id="sweeps" title="Sweeps" summary={countStates(sweeps, stateOrder)}>
      <Scroll label="Table of sweeps">
        <table>
          <thead>
            <tr>
              <th scope="col">Sweep</th>
              <th scope="col">State</th>
              <th scope="col" class="number">
                Trials over
              </th>
              <th scope="col">Best</th>
            </tr>
          </thead>
          <tbody>
            {[...sweeps].reverse().map((sweep) => (
              <SweepRow key={sweep.id} sweep={sweep} nowMs={nowMs} />
            ))}
          </tbody>
        </table>
      </Scroll>
    </Panel>
  );
}

const SweepRow = ({ sweep, nowMs }: { sweep: Sweep; nowMs: number }) => (
  <tr data-testid="sweep-row" data-sweep-id={sweep.id} data-state={sweep.state}>
    <th scope="row">
      <span class="wrap">{sweep.name}</span>
      <span class="second">
        {sweep.id}, {sweep.method}
      </span>
    </th>
    <td title={sweep.reason}>
      <StateBadge state={sweep.state} />
      {sweep.startedAtMs === null ? null : (
        <span class="second">{formatDuration((sweep.endedAtMs ?? nowMs) - sweep.startedAtMs)}</span>
      )}
    </td>
    <td class="number">
      {formatCount(sweep.overCount)}/{formatCount(sweep.trialCount)}
    </td>
    <td>
      <Best sweep={sweep} />
    </td>
  </tr>
);

function Best({ sweep: { best, metric, version } }: { sweep: Sweep }) {
  if (best === null) return <>{unknown}</>;
  return (
    <>
      {best.jobId === null ? `trial ${best.number}` : <a href={`#${best.jobId}`}>trial {best.number}</a>}
      <span class="second">
        {metric} {Number(best.value.toPrecision(4))}
        {version === null ? "" : `, ${version}`}
      </span>
    </>
  );
}
