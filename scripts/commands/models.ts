import type { Command } from "commander";
import type { VersionDetail, VersionView } from "../../protocol/messages/api.ts";
import { type VersionReference, versionReference } from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  const models = program
    .command("models")
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
    .argument("<name@n>", "for example digits@1", versionReference)
    .description("show one version: its layers, its accuracy and what made it")
    .action(({ name, version }: VersionReference, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const detail = await (await connectApi(context)).version(name, version);
        return { json: detail, text: await versionText(detail) };
      }),
    );
}

async function versionTable(versions: readonly VersionView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const { formatBytes, formatCount, formatLoss, formatPercent } = await import("./present/quantity.ts");
  return formatTable(
    ["version", "accuracy", "loss", "parameters", "layers", "weights", "holders", "job", "created"],
    versions.map((view) => [
      `${view.name}@${view.version}`,
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
    ["manifest", detail.digest],
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
