import type { AgentNeeds } from "./needs.ts";
import { needsText } from "./needs-text.ts";
import type { QuotaRecord } from "./queue-facts.ts";

interface Ahead {
  readonly id: string;
  readonly priority: number;
}

/** What stands between a job and its beginning. */
export type Obstacle =
  /** Even of agents that are busy there are not enough. */
  | {
      readonly kind: "agents";
      readonly present: number;
      readonly gang: number;
      readonly needs: AgentNeeds;
      /** Who is there and left out, for people; else empty. */
      readonly leftOut: string;
      /** For people: why nobody that ever joined could do. */
      readonly whyNone: string | undefined;
    }
  /** Nobody who has the checkpoint that it goes on from is here. */
  | { readonly kind: "holder"; readonly step: number }
  | { readonly kind: "quota-too-small"; readonly quota: QuotaRecord; readonly gang: number }
  | {
      readonly kind: "quota";
      readonly quota: QuotaRecord;
      readonly used: { readonly agents: number; readonly jobs: number };
      readonly gang: number;
      /** What the jobs that run leave no room in; null: it is what others wait for that leaves none. */
      readonly limit: "agents" | "jobs" | null;
      /** The first job of its project that waits. */
      readonly ahead: Ahead | undefined;
    }
  /** Agents that it can use work for others. */
  | {
      readonly kind: "line";
      readonly missing: number;
      readonly reserved: number;
      readonly needs: AgentNeeds;
      readonly ahead: (Ahead & { readonly reserved: number }) | undefined;
      /** Jobs that give agents back for it. */
      readonly from: readonly string[];
    };

/** For people: why a job waits. */
export function obstacleText(obstacle: Obstacle): string {
  switch (obstacle.kind) {
    case "agents": {
      const { present, gang, needs, whyNone, leftOut } = obstacle;
      if (whyNone !== undefined) return `waits: ${whyNone}`;
      return `waits for ${workers(gang - present)}${needsText(needs, gang - present)}: ${present} of ${gang} present${leftOut}`;
    }
    case "holder":
      return `waits for a worker that holds the checkpoint of step ${obstacle.step}`;
    case "quota-too-small": {
      const { quota, gang } = obstacle;
      if (quota.jobs === 0) return `waits: project ${quota.project} may run no jobs`;
      return `waits: it needs ${agents(gang)}, and project ${quota.project} may have ${quota.agents}`;
    }
    case "quota":
      return quotaText(obstacle);
    case "line":
      return lineText(obstacle);
  }
}

function quotaText({ quota, used, gang, limit, ahead }: Extract<Obstacle, { kind: "quota" }>): string {
  const { project } = quota;
  if (limit === "jobs") return `waits: project ${project} runs ${used.jobs} of ${quota.jobs} jobs`;
  if (limit === null && ahead)
    return `waits behind ${ahead.id} (priority ${ahead.priority}) within the quota of project ${project}`;
  return `waits: project ${project} has ${used.agents} of ${agents(quota.agents ?? 0)}, and it needs ${gang}`;
}

function lineText({ missing, reserved, needs, ahead, from }: Extract<Obstacle, { kind: "line" }>): string {
  const kept = reserved === 0 ? "" : `: ${reserved} of ${missing} ${isOrAre(reserved)} reserved for it`;
  if (from.length > 0)
    return `waits for ${agents(missing - reserved)} that ${from.join(", ")} gives back${kept}`;
  const what = needsText({ ...needs, scripts: false }, missing - reserved); // how to allow scripts is no news here
  if (!ahead) return `waits for ${agents(missing - reserved)}${what} to become free${kept}`;
  const theirs = ahead.reserved === 0 ? "" : `, which has reserved ${agents(ahead.reserved)}`;
  return `waits behind ${ahead.id} (priority ${ahead.priority})${theirs}`;
}

const workers = (count: number): string => `${count} more worker${count === 1 ? "" : "s"}`;
const agents = (count: number): string => `${count} agent${count === 1 ? "" : "s"}`;
const isOrAre = (count: number): string => (count === 1 ? "is" : "are");
