import type { Command } from "commander";
import type { RetentionDetail, RetentionView } from "../../protocol/messages/retention.ts";
import { plainName, positiveInteger } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface SetOptions {
  readonly keepLast: number;
  readonly keepDays?: number;
}

/** Rules by which versions go by themselves. */
export function registerRetention(models: Command, io: CommandIo): void {
  const retention = models
    .command("retention")
    .argument("[name]", "of a model: what stays there although it is old, and why", plainName)
    .description("list by which rules versions go by themselves; set or remove one")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((name: string | undefined, _options: unknown, command: Command) =>
      runCommand(command, io, (context) => (name === undefined ? list(context) : show(name, context))),
    );

  retention
    .command("set")
    .argument("<name>", "for example digits", plainName)
    .description(
      "let old versions of a model go from now on, but for what is served, aliased or trained from",
    )
    .requiredOption("--keep-last <count>", "newest versions that stay", positiveInteger)
    .option("--keep-days <count>", "older ones stay so many days after they were made", positiveInteger)
    .action((name: string, _options: unknown, command: Command) =>
      runCommand<SetOptions>(command, io, async (context, { keepLast, keepDays = null }) => {
        const { connectApi } = await import("./api-client.ts");
        const rule = { keepLast, keepForDays: keepDays };
        const detail = await (await connectApi(context)).setRetentionRule(name, rule);
        return { json: detail, text: await detailText(detail) };
      }),
    );

  retention
    .command("remove")
    .argument("<name>", "for example digits", plainName)
    .description("let all versions of a model stay")
    .action((name: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeRetentionRule(name);
        return { json: { name, removed: true }, text: `all versions of ${name} stay from now on` };
      }),
    );
}

async function list(context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const rules = await (await connectApi(context)).retentionRules();
  return { json: rules, text: rules.length === 0 ? "no rules: all versions stay" : await ruleTable(rules) };
}

async function show(name: string, context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const detail = await (await connectApi(context)).retentionRule(name);
  return { json: detail, text: await detailText(detail) };
}

async function ruleTable(rules: readonly RetentionView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  return formatTable(
    ["model", "keeps newest", "for days", "versions", "older ones kept"],
    rules.map(({ name, keepLast, keepForDays, presentCount, keptCount }) => [
      ...[name, String(keepLast), String(keepForDays ?? "-"), String(presentCount), String(keptCount)],
    ]),
  );
}

async function detailText(detail: RetentionDetail): Promise<string> {
  const reasons = detail.kept.map(({ version, reason }) => `${detail.name}@${version} stays: ${reason}`);
  return [await ruleTable([detail]), ...reasons].join("\n");
}
