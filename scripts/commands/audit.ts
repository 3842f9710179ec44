import type { Command } from "commander";
import type { AuditEntry, Decider } from "../../protocol/messages/audit.ts";
import type { ApiClient, AuditFilter } from "./api-client.ts";
import { pointInTime } from "./arguments.ts";
import { type CommandContext, type CommandIo, runCommand } from "./command.ts";

interface AuditOptions {
  readonly job?: string;
  readonly since?: number;
  readonly follow: boolean;
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("audit")
    .description("show who decided what, when and why")
    .option("--job <id>", "decisions about this job only, for example job-3")
    .option(
      "--since <time>",
      "a time (2026-11-23T19:30:00Z), or how long ago (90s, 15m, 2h, 7d)",
      pointInTime,
    )
    .option("--follow", "go on with what is decided from now on, until Ctrl-C", false)
    .action((_options: unknown, command: Command) =>
      runCommand<AuditOptions>(command, io, async (context, options) => {
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        const wanted = { sinceMs: options.since ?? 0, ...(options.job && { job: options.job }) };
        if (options.follow) return follow(api, context, wanted);
        const entries = await api.audit(wanted);
        const text = entries.length === 0 ? "no decisions" : entries.map(auditLine).join("\n");
        return { json: entries, text };
      }),
    );
}

/** One line an entry, as it comes; with --json one document an entry. */
async function follow(api: ApiClient, context: CommandContext, wanted: AuditFilter): Promise<undefined> {
  const { followEvents } = await import("./follow/cluster-follower.ts");
  const { io, common, signal } = context;
  let lastEventId: string | undefined;
  const open = (connection: AbortSignal) => api.watch("audit", wanted, { signal: connection, lastEventId });
  try {
    for await (const { items, id } of followEvents(api, open, context)) {
      lastEventId = id;
      for (const entry of items)
        io.stdout.write(`${common.json ? JSON.stringify(entry) : auditLine(entry)}\n`);
    }
  } catch (cause) {
    if (!signal.aborted) throw cause; // Ctrl-C is how it ends
  }
  return undefined;
}

const auditLine = ({ sequence, atMs, term, who, subject, event, decision, reason }: AuditEntry): string => {
  const changed = decision.map(({ record, fields }) =>
    fields.length === 0 ? record : `${record}(${fields.join(" ")})`,
  );
  const when = new Date(atMs).toISOString();
  const what = changed.length === 0 ? "" : `  [${changed.join(", ")}]`;
  return `${sequence} ${when} t${term} ${deciderName(who)} ${event.kind}: ${subject}: ${reason}${what}`;
};

const deciderName = (who: Decider): string => (who.kind === "peer" ? who.name : who.kind);
