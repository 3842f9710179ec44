import type { Command } from "commander";
import { shortPeer } from "../../protocol/ids.ts";
import type { PruneAnswer, VersionDetail, VersionView } from "../../protocol/messages/api.ts";
import { registerAlias } from "./alias.ts";
import {
  plainName,
  positiveInteger,
  type VersionReference,
  type VersionSelector,
  versionReference,
  versionSelector,
} from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";
import { registerProvenance } from "./provenance.ts";
import { registerRetention } from "./retention.ts";

export function register(program: Command, io: CommandIo): void {
  const models = program
    .command("models")
    .alias("versions")
    .description("list the registered versions of all models; show one")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const versions = await (await connectApi(context)).models();
        return {
          json: versions,
          text: versions.length === 0 ? "no models yet" : await versionTable(versions),
        };
      }),
    );

  models
    .command("show")
    .argument("<name@n>", "for example digits@1, or digits@champion by an alias", versionSelector)
    .description("show one version: its layers, its accuracy and what made it")
    .action(({ name, selector }: VersionSelector, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const detail = await (await connectApi(context)).version(name, selector);
        return { json: detail, text: await versionText(detail) };
      }),
    );

  models
    .command("diff")
    .argument("<name@n>", "the earlier one", versionSelector)
    .argument("<other@n>", "the later one, of the same name or another", versionSelector)
    .description("show where two versions differ: what was asked for, the model, what made them, the metrics")
    .action((one: VersionSelector, other: VersionSelector, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { differenceTable } = await import("./present/document-text.ts");
        const names = [`${one.name}@${one.selector}`, `${other.name}@${other.selector}`] as const;
        const differences = await (await connectApi(context)).versionDiff(one.name, one.selector, names[1]);
        return { json: differences, text: differenceTable(differences, names, ({ part }) => part) };
      }),
    );

  registerProvenance(models, io);
  registerAlias(models, io, {
    example: "digits@champion",
    move: (api, name, alias, request) => api.moveAlias(name, alias, request),
    remove: (api, name, alias, from) => api.removeAlias(name, alias, from),
  });
  registerRemoval(models, io);
  registerRetention(models, io);
}

interface PruneOptions {
  readonly keepLast: number;
  readonly dryRun: boolean;
}

function registerRemoval(models: Command, io: CommandIo): void {
  models
    .command("remove")
    .argument("<name@n>", "for example digits@1", versionReference)
    .description("let agents free the weights of a version that nothing needs")
    .action(({ name, version }: VersionReference, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeVersion(name, version);
        return { json: { name, version, removed: true }, text: `${name}@${version} is removed` };
      }),
    );

  models
    .command("prune")
    .argument("<name>", "for example digits", plainName)
    .description("remove all but the newest versions of a model, and what is served, aliased or trained from")
    .requiredOption("--keep-last <count>", "newest versions that stay", positiveInteger)
    .option("--dry-run", "only say what would go", false)
    .action((name: string, _options: unknown, command: Command) =>
      runCommand<PruneOptions>(command, io, async (context, { keepLast, dryRun }) => {
        const { connectApi } = await import("./api-client.ts");
        const answer = await (await connectApi(context)).pruneVersions(name, { keepLast, dryRun });
        return { json: answer, text: pruneText(name, answer, dryRun) };
      }),
    );
}

function pruneText(name: string, { removed, kept }: PruneAnswer, dryRun: boolean): string {
  const what = removed.map((version) => `${name}@${version}`).join(" ") || "nothing";
  const stays = kept.map(({ version, reason }) => `${name}@${version} stays: ${reason}`);
  return [`${dryRun ? "would remove" : "removed"} ${what}`, ...stays].join("\n");
}

async function versionTable(versions: readonly VersionView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const { formatBytes, formatCount, formatLoss, formatPercent } = await import("./present/quantity.ts");
  return formatTable(
    [
      "version",
      "aliases",
      "accuracy",
      "loss",
      "parameters",
      "layers",
      "weights",
      "held by",
      "job",
      "created",
    ],
    versions.map((view) => [
      `${view.name}@${view.version}`,
      view.aliases.join(" ") || "-",
      view.accuracy === null ? "-" : formatPercent(view.accuracy, 2),
      formatLoss(view.loss),
      formatCount(view.parameterCount),
      String(view.layerCount),
      formatBytes(view.weightsBytes),
      `${view.holders.length}/${view.replicasWanted}`,
      view.jobId,
      new Date(view.createdAtMs).toISOString(),
    ]),
  );
}

/** `2 of 3: a1b2c3 d4e5f6` */
function heldText({ holders, replicasWanted }: VersionView): string {
  const names = holders.map(shortPeer).join(" ") || "no live peer";
  return `${holders.length} of ${replicasWanted}: ${names}`;
}

async function versionText(detail: VersionDetail): Promise<string> {
  const { formatFacts, formatTable } = await import("./present/table.ts");
  const { formatBytes, formatCount } = await import("./present/quantity.ts");
  const { evaluationText } = await import("./present/job-text.ts");
  const { manifest } = detail;
  const { lineage } = manifest;
  const facts = formatFacts([
    ["version", `${detail.name}@${detail.version}`],
    ["aliases", detail.aliases.join(" ") || "none"],
    ["manifest", detail.digest],
    ["signed by", detail.signers.map(shortPeer).join(" ") || "nobody: it is of an earlier release"],
    ["weights", `${formatBytes(detail.weightsBytes)}, ${detail.weightsDigest}`],
    ["parameters", formatCount(detail.parameterCount)],
    ["input", manifest.model.inputShape.join("x")],
    ["output", manifest.model.outputShape.join("x")],
    ["quality", evaluationText({ ...detail, examples: manifest.metrics.testExamples })],
    ["job", `${lineage.jobId}: ${lineage.steps} steps in ${lineage.generations} generations`],
    ...(lineage.from ? [["from", lineage.from] as [string, string]] : []),
    ["data", lineage.dataDigest],
    ["seed", String(lineage.seed)],
    ["trained by", `${lineage.peers.map(shortPeer).join(" ")} with ${lineage.engines.join(", ")}`],
    ["release", lineage.release],
    ["created", new Date(detail.createdAtMs).toISOString()],
    ["held by", heldText(detail)],
  ]);
  const layers = formatTable(
    ["layer", "kind", "output", "parameters"],
    manifest.model.layers.map((layer) => [
      layer.name,
      layer.kind,
      layer.outputShape.join("x"),
      formatCount(layer.parameterCount),
    ]),
  );
  const { tablesText } = await import("./present/class-tables.ts");
  return [facts, tablesText(manifest.metrics), layers].filter((part) => part !== "").join("\n\n");
}
