import type { Decision } from "./decide/decision.ts";
import type { JobEvent } from "./decide/job.ts";

const steeringEvents = {
  cancel: "job-cancelled",
  pause: "job-paused",
  resume: "job-resumed",
  retry: "job-retried",
} as const;

const coordinator = { kind: "coordinator" } as const;
const operator = { kind: "operator" } as const;

/** Who made the coordinator decide about a job, and by what. */
export function toldOf(
  jobId: string,
  event: JobEvent,
  nameOf: (peerId: string) => string,
): Pick<Decision, "who" | "event"> {
  switch (event.kind) {
    case "tick":
      return { who: coordinator, event: { kind: "job-looked-at", jobId } };
    case "granted":
      return { who: coordinator, event: { kind: "job-granted", jobId, agents: event.peerIds.length } };
    case "reduced": {
      const { peerIds, to } = event;
      return { who: coordinator, event: { kind: "job-reduced", jobId, agents: peerIds.length, to } };
    }
    case "steer":
      return { who: operator, event: { kind: steeringEvents[event.action], jobId } };
    case "prioritised": {
      const { priority, reason: detail } = event;
      return { who: operator, event: { kind: "job-prioritised", jobId, priority, detail } };
    }
    case "continue":
      return { who: coordinator, event: { kind: "job-continued", jobId, epochs: event.epochs } };
    case "stop":
      return { who: coordinator, event: { kind: "job-stopped", jobId } };
    case "report": {
      const { from: peerId, report } = event;
      const generation = "generation" in report ? report.generation : null;
      return {
        who: { kind: "peer", peerId, name: nameOf(peerId) },
        event: { kind: "job-reported", jobId, report: report.kind, generation },
      };
    }
  }
}
