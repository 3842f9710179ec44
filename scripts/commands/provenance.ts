import { type Command, Option } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { type VersionSelector, versionSelector } from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";

interface LineageOptions {
  readonly format: "tree" | "dot" | "mermaid";
}

interface ExportOptions {
  readonly to: string;
  readonly agent?: string;
}

interface VerifyOptions {
  readonly from?: string;
  readonly authority?: string;
}

/** Where versions come from, and whether they are what their makers have signed: commands below `models`. */
export function registerProvenance(models: Command, io: CommandIo): void {
  models
    .command("lineage")
    .argument("<name@n>", "for example digits@2", versionSelector)
    .description(
      "show what a version comes from (data, pipeline, job, earlier versions) and what became of it",
    )
    .addOption(
      new Option("--format <format>", "how the graph is drawn")
        .choices(["tree", "dot", "mermaid"])
        .default("tree"),
    )
    .action(({ name, selector }: VersionSelector, _options: unknown, command: Command) =>
      runCommand<LineageOptions>(command, io, async (context, { format }) => {
        const { connectApi } = await import("./api-client.ts");
        const { lineageText } = await import("./present/lineage-text.ts");
        const lineage = await (await connectApi(context)).lineage(name, selector);
        return { json: lineage, text: lineageText(lineage, format) };
      }),
    );

  models
    .command("export")
    .argument("<name@n>", "for example digits@1", versionSelector)
    .description("write a version into a folder: weights (safetensors), manifest, signatures")
    .requiredOption("--to <folder>", "a new folder")
    .option("--agent <folder>", "data folder of an agent on this machine that holds the weights")
    .action(({ name, selector }: VersionSelector, _options: unknown, command: Command) =>
      runCommand<ExportOptions>(command, io, async (context, { to, agent }) => {
        const { exportVersion } = await import("./versions/exported-version.ts");
        return await exportVersion({ name, selector }, context, { to, agent });
      }),
    );

  models
    .command("verify")
    .argument("[name@n]", "a version of the cluster, for example digits@1", versionSelector)
    .option("--from <folder>", "an exported version instead: without a coordinator")
    .option("--authority <key id>", "the cluster authority that must have registered it")
    .description("check that a version is what its agents, and the cluster's authority, have signed")
    .action((version: VersionSelector | undefined, _options: unknown, command: Command) =>
      runCommand<VerifyOptions>(command, io, async (context, { from, authority }) => {
        if ((version === undefined) === (from === undefined))
          throw new RingfoldError("USAGE", "give NAME@N, or --from FOLDER");
        const { verifyExported, verifyRegistered } = await import("./versions/verification.ts");
        const verification = version
          ? verifyRegistered(version, context, authority)
          : verifyExported(from!, authority);
        const { text, ...json } = await verification;
        if (!json.verified) io.exitCode.value = 1; // nobody has signed it
        return { json, text };
      }),
    );
}
