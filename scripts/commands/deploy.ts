import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DeploymentView } from "../../protocol/messages/api.ts";
import type { ApiClient } from "./api-client.ts";
import { positiveInteger, type VersionSelector, versionSelector } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface DeployOptions {
  readonly shards: number;
  readonly replicas: number;
  readonly wait: boolean;
  /** Seconds. */
  readonly timeout: number;
}

export function register(program: Command, io: CommandIo): void {
  const deployCommand = program
    .command("deploy")
    .argument("<name@n>", "for example digits@1, or digits@champion by an alias", versionSelector)
    .description("serve a version, cut into shards with replicas on different agents")
    .option("--shards <count>", "cut the layers into so many shards", positiveInteger, 1)
    .option("--replicas <count>", "replicas of each shard", positiveInteger, 1)
    .option("--wait", "return when every shard has all its replicas", true)
    .option("--no-wait", "return as soon as the coordinator has placed the shards")
    .option("--timeout <seconds>", "longest wait", positiveInteger, 120)
    .action((reference: VersionSelector, _options: unknown, command: Command) =>
      runCommand<DeployOptions>(command, io, (context, options) => deploy(reference, context, options)),
    );

  deployCommand
    .command("list")
    .description("list the deployments and where their shards are")
    .action((_options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const list = await (await connectApi(context)).deployments();
        return { json: list, text: list.length === 0 ? "no deployments yet" : await deploymentTable(list) };
      }),
    );

  deployCommand
    .command("remove")
    .argument("<name>", "for example digits")
    .description("stop serving a model; its versions stay")
    .action((name: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeDeployment(name);
        return { json: { name, removed: true }, text: `${name} is no longer served` };
      }),
    );
}

async function deploy(
  { name, selector }: VersionSelector,
  context: CommandContext,
  { shards, replicas, wait, timeout }: DeployOptions,
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const api = await connectApi(context);
  const placed = await api.deploy(name, { version: selector, shards, replicas });
  if (!wait || (placed.live && placed.state === "ready")) return deploymentResult(placed);
  context.note(`${name}@${placed.version} placed, waiting: ${placed.reason}`);
  return deploymentResult(await waitUntilReady(api, placed, context, timeout * 1_000));
}

/** @throws RingfoldError REQUEST_TIMEOUT with the last state; CONFLICT when a later deployment replaced this one */
async function waitUntilReady(
  api: ApiClient,
  placed: DeploymentView,
  context: CommandContext,
  timeoutMs: number,
): Promise<DeploymentView> {
  const { waitForView } = await import("./follow/cluster-follower.ts");
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([context.signal, deadline]);
  const label = `${placed.name}@${placed.version}`;
  let last = placed;
  try {
    return await waitForView(api, { signal, note: context.note }, async ({ deployments }) => {
      // A view from before our request may still be on its way, so absence is asked for, not inferred.
      const ours = ({ deployment }: DeploymentView): boolean => deployment === placed.deployment;
      const found = deployments.find(ours) ?? (await api.deployments()).find(ours);
      if (!found) {
        throw new RingfoldError("CONFLICT", `${label} was removed or replaced while it loaded`, {
          name: placed.name,
        });
      }
      if (found.reason !== last.reason) context.note(`${label} ${found.state}: ${found.reason}`);
      last = found;
      return found.live && found.state === "ready" ? found : undefined;
    });
  } catch (cause) {
    if (!deadline.aborted || context.signal.aborted) throw cause;
    throw new RingfoldError(
      "REQUEST_TIMEOUT",
      `${label} is ${last.state} after ${timeoutMs / 1_000} s: ${last.reason}`,
      {
        name: placed.name,
        state: last.state,
        elapsedMs: timeoutMs,
        remedy: "It goes on loading: see `ringfold deploy list`, or wait longer with --timeout.",
      },
      { cause },
    );
  }
}

const deploymentResult = async (deployment: DeploymentView): Promise<CommandResult> => ({
  json: deployment,
  text: await deploymentTable([deployment]),
});

async function deploymentTable(deployments: readonly DeploymentView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const { shortPeer } = await import("../../protocol/ids.ts");
  const rows = deployments.flatMap(({ name, version, state, weight, reason, shards }) =>
    shards.map(({ shardIndex, fromLayer, toLayer, replicas }) => [
      `${name}@${version}`,
      weight === null ? state : `${state}, gets ${weight}%`,
      String(shardIndex),
      `${fromLayer}-${toLayer - 1}`,
      replicas.map(({ peerId, ready }) => `${shortPeer(peerId)}${ready ? "" : " (loading)"}`).join(" "),
      reason,
    ]),
  );
  return formatTable(["version", "state", "shard", "layers", "replicas", "reason"], rows);
}
