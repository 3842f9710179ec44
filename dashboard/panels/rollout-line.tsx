import { formatCount, unknown } from "../format.ts";
import type { Rollout } from "../views.ts";
import { StateBadge } from "./state-badge.tsx";

/** The rollout of a name in two lines: where it stands with its evidence, and why. It stays until the next one. */
export const RolloutLine = ({ rollout }: { rollout: Rollout }) => (
  <div data-testid="rollout" data-name={rollout.name} data-state={rollout.state}>
    <div class="deployment-header">
      <span>
        rollout {rollout.name}@{rollout.fromVersion} → @{rollout.version}
      </span>
      <StateBadge state={rollout.state} />
      <span class="muted">
        {rollout.weight}%, step {rollout.step} of {rollout.steps.join(", ")}%
      </span>
      {rollout.evidence ? (
        <span class="muted">
          @{rollout.version} {sideText(rollout.evidence.candidate)} · @{rollout.fromVersion}{" "}
          {rollout.evidence.live ? sideText(rollout.evidence.live) : unknown}
        </span>
      ) : null}
    </div>
    <p class="reason" aria-live="polite">
      {rollout.reason}
    </p>
  </div>
);

type Side = NonNullable<Rollout["evidence"]>["candidate"];

const sideText = ({ requests, errors, p95Ms }: Side): string => {
  const failed = Object.values(errors).reduce((sum, count) => sum + count, 0);
  const tail = p95Ms === null ? unknown : `${Number(p95Ms.toPrecision(2))} ms`;
  return `${formatCount(requests)} requests, ${formatCount(failed)} failed, p95 ${tail}`;
};
