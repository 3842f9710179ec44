import type { QuotaView } from "../../../protocol/messages/quota.ts";
import { formatTable } from "./table.ts";

/** One line a project: what it has of what it may have. */
export const quotaTable = (quotas: readonly QuotaView[]): string =>
  formatTable(
    ["project", "agents", "running jobs", "waiting jobs"],
    quotas.map(({ project, agents, jobs, used }) => [
      project,
      agents === null ? String(used.agents) : `${used.agents} of ${agents}`,
      jobs === null ? String(used.jobs) : `${used.jobs} of ${jobs}`,
      String(used.waiting),
    ]),
  );
