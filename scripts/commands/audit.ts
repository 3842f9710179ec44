import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { AuditEntry, Decider } from "../../protocol/messages/audit.ts";
import type { ApiClient } from "./api-client.ts";
import { pointInTime } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { FiltersOf } from "./follow/list-watcher.ts";

interface AuditOptions {
  readonly job?: string;
  readonly since?: number;
  readonly until?: number;
  readonly who?: string;
  readonly subject?: string;
  readonly kind?: string;
  readonly follow: boolean;
  readonly export?: string;
}

type Wanted = FiltersOf<"audit">;

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
    .option("--until <time>", "the same: up to then", pointInTime)
    .option("--who <name>", "operator, coordinator, peer, or the name or id of one agent")
    .option("--subject <text>", "decisions whose subject has this in it, for example `model digits`")
    .option("--kind <kind>", "decisions on such an event, for example job-submitted")
    .option("--export <file>", "into a file, a line of JSON a decision; - is stdout")
    .option("--follow", "go on with what is decided from now on, until Ctrl-C", false)
    .action((_options: unknown, command: Command) =>
      runCommand<AuditOptions>(command, io, async (context, options) => {
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        const wanted = await wantedOf(options);
        if (options.follow && options.export !== undefined)
          throw new RingfoldError("USAGE", "--export takes what there is; --follow --json writes lines too");
        if (options.follow) return follow(api, context, wanted);
        const entries = await api.audit(wanted);
        if (options.export !== undefined) return exportTo(options.export, entries, io);
        const text = entries.length === 0 ? "no decisions" : entries.map(auditLine).join("\n");
        return { json: entries, text };
      }),
    );
}

async function wantedOf({ since, until, job, who, subject, kind }: AuditOptions): Promise<Wanted> {
  const { auditKindSchema } = await import("../../protocol/messages/audit.ts");
  const known = auditKindSchema.optional().safeParse(kind);
  if (!known.success)
    throw new RingfoldError("USAGE", `--kind ${kind}: choose one of ${auditKindSchema.options.join(", ")}`);
  return {
    sinceMs: since ?? 0,
    ...(until !== undefined && { untilMs: until }),
    ...(job !== undefined && { job }),
    ...(who !== undefined && { who }),
    ...(subject !== undefined && { subject }),
    ...(known.data !== undefined && { kind: known.data }),
  };
}

/** A line of JSON each, as `--follow --json` writes them; the file appears whole or not at all. */
async function exportTo(
  path: string,
  entries: readonly AuditEntry[],
  io: CommandIo,
): Promise<CommandResult | undefined> {
  const lines = entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
  if (path === "-") {
    io.stdout.write(lines);
    return undefined;
  }
  const { rename, writeFile } = await import("node:fs/promises");
  await writeFile(`${path}.part`, lines, { mode: 0o600 });
  await rename(`${path}.part`, path);
  return { json: { file: path, decisions: entries.length }, text: `${entries.length} decisions in ${path}` };
}

/** One line an entry, as it comes; with --json one document an entry. */
async function follow(api: ApiClient, context: CommandContext, wanted: Wanted): Promise<undefined> {
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
