import type { Command } from "commander";
import { modelReference, plainName, type VersionReference, versionReference } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { AddOptions } from "./data/add.ts";

export function register(program: Command, io: CommandIo): void {
  const data = program
    .command("data")
    .description("list the data sets; add, show or remove one")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  data
    .command("add")
    .argument("<source>", "a CSV, JSONL, Parquet or text file, or a folder of images")
    .description("prepare a source, keep it in this machine's agent and register it")
    .option("--name <name>", "of the data set; the name of the source unless told", plainName)
    .option("--pipeline <file>", "YAML, see docs/data.md; or a registered one, as credit@1")
    .option("--target <column>", "what is to be predicted")
    .option("--agent <folder>", "data folder of the agent on this machine that holds it")
    .action((source: string, _options: unknown, command: Command) =>
      runCommand<AddOptions>(command, io, async (context, options) => {
        const { addDataset } = await import("./data/add.ts");
        return addDataset(source, context, options);
      }),
    );

  data
    .command("show")
    .argument("<name[@n]>", "for example digits or digits@1", modelReference)
    .description("show one: schema, statistics, class balance, pipeline")
    .action((reference: ReturnType<typeof modelReference>, _options: unknown, command: Command) =>
      runCommand(command, io, (context) => show(reference, context)),
    );

  data
    .command("remove")
    .argument("<name@n>", "for example digits@1", versionReference)
    .description("forget one: agents free its chunks, and its number is not given again")
    .action(({ name, version }: VersionReference, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeDataset(name, version);
        return { json: { name, version, removed: true }, text: `${name}@${version} removed` };
      }),
    );
}

async function list(context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { datasetTable } = await import("./present/dataset-text.ts");
  const views = await (await connectApi(context)).datasets();
  return { json: views, text: views.length === 0 ? "no data sets yet" : datasetTable(views) };
}

async function show(
  { name, version }: ReturnType<typeof modelReference>,
  context: CommandContext,
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { datasetText } = await import("./present/dataset-text.ts");
  const api = await connectApi(context);
  const newest = version ?? (await api.datasets()).findLast((view) => view.name === name)?.version ?? 1;
  const detail = await api.dataset(name, newest);
  return { json: detail, text: datasetText(detail) };
}
