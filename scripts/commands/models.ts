import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type {
  PruneAnswer,
  VersionDetail,
  VersionDifference,
  VersionView,
} from "../../protocol/messages/api.ts";
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
        const api = await connectApi(context);
        const differences = await api.versionDiff(one.name, one.selector, `${other.name}@${other.selector}`);
        return { json: differences, text: await differenceTable(differences, one, other) };
      }),
    );

  registerProvenance(models, io);
  registerAlias(models, io);
  registerRemoval(models, io);
}

interface AliasOptions {
  readonly from?: number;
  readonly create: boolean;
  readonly remove: boolean;
}

function registerAlias(models: Command, io: CommandIo): void {
  models
    .command("alias")
    .argument("<name@alias>", "for example digits@champion", versionSelector)
    .argument("[n]", "number of the version that it is to point to", positiveInteger)
    .description("point an alias to a version; of two who move it at once, one is told")
    .option("--from <n>", "only if it points to this version now", positiveInteger)
    .option("--create", "only if there is no such alias yet", false)
    .option("--remove", "remove the alias", false)
    .action((target: VersionSelector, version: number | undefined, _options: unknown, command: Command) =>
      runCommand<AliasOptions>(command, io, async (context, { from, create, remove }) => {
        const { name, selector: alias } = target;
        if (typeof alias === "number") throw new RingfoldError("USAGE", "an alias begins with a letter");
        if (remove === (version !== undefined))
          throw new RingfoldError("USAGE", "give the number of a version, or --remove");
        if (from !== undefined && create)
          throw new RingfoldError("USAGE", "--from and --create exclude each other");
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        if (version === undefined) {
          await api.removeAlias(name, alias);
          return { json: { name, alias, removed: true }, text: `${name}@${alias} is removed` };
        }
        const expected = create ? { from: null } : from === undefined ? {} : { from };
        const view = await api.moveAlias(name, alias, { version, ...expected });
        return { json: view, text: `${name}@${alias} is ${name}@${view.version}` };
      }),
    );
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

async function differenceTable(
  differences: readonly VersionDifference[],
  one: VersionSelector,
  other: VersionSelector,
): Promise<string> {
  if (differences.length === 0) return "no difference";
  const { formatTable } = await import("./present/table.ts");
  const shown = (value: unknown) => (value === undefined ? "-" : JSON.stringify(value));
  return formatTable(
    ["", "key", `${one.name}@${one.selector}`, `${other.name}@${other.selector}`],
    differences.map(({ part, path, before, after }) => [part, path, shown(before), shown(after)]),
  );
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
      "holders",
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
      String(view.holders.length),
      view.jobId,
      new Date(view.createdAtMs).toISOString(),
    ]),
  );
}

async function versionText(detail: VersionDetail): Promise<string> {
  const { formatFacts, formatTable } = await import("./present/table.ts");
  const { formatBytes, formatCount } = await import("./present/quantity.ts");
  const { evaluationText } = await import("./present/job-text.ts");
  const { shortPeer } = await import("../../protocol/ids.ts");
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
    ["held by", detail.holders.map(shortPeer).join(" ") || "no live peer"],
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
  return `${facts}\n\n${layers}`;
}
