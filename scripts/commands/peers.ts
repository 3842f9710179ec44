import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { PeerView } from "../../protocol/messages/api.ts";
import { type Capabilities, largestGpu } from "../../protocol/messages/membership.ts";
import { labelText } from "../../protocol/needs.ts";
import { sizeText } from "../../protocol/size.ts";
import type { ApiClient } from "./api-client.ts";
import { positiveInteger } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface DrainOptions {
  readonly reason: string;
  readonly wait: boolean;
  /** Seconds. */
  readonly timeout: number;
}

/** Between two looks at whether a machine is free. */
const lookMs = 500;

export function register(program: Command, io: CommandIo): void {
  const peersCommand = program
    .command("peers")
    .description("list the agents of the cluster and what they compute with")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const peers = await (await connectApi(context)).peers();
        return { json: peers, text: peers.length === 0 ? "no agents yet" : await peerTable(peers) };
      }),
    );

  peersCommand
    .command("drain")
    .argument("<agent>", "its name, or the end of its peer id")
    .description("take a machine out of service: its work moves to others, through restarts, until `undrain`")
    .option("--reason <text>", "for the log", "")
    .option("--no-wait", "return at once; else when nothing needs the machine any more")
    .option("--timeout <seconds>", "longest wait", positiveInteger, 120)
    .action((agent: string, _options: unknown, command: Command) =>
      runCommand<DrainOptions>(command, io, (context, options) => drain(agent, context, options)),
    );

  peersCommand
    .command("undrain")
    .argument("<agent>", "its name, or the end of its peer id")
    .description("put a machine back in service")
    .action((agent: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        const { peerId, name } = await findPeer(api, agent);
        const { peer } = await api.drainPeer(peerId, { drained: false, reason: "" });
        return { json: peer, text: `${name} is ${peer.state}` };
      }),
    );

  peersCommand
    .command("remove")
    .argument("<agent>", "its name, or the end of its peer id")
    .description("refuse the identity of a machine from now on; drain it first where something needs it")
    .option("--reason <text>", "for the log", "")
    .action((agent: string, _options: unknown, command: Command) =>
      runCommand<Pick<DrainOptions, "reason">>(command, io, async (context, { reason }) => {
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        const { peerId, name } = await findPeer(api, agent);
        await api.removePeer(peerId, reason);
        return { json: { peerId, name }, text: `${name} is no member any more` };
      }),
    );
}

async function drain(
  agent: string,
  context: CommandContext,
  { reason, wait, timeout }: DrainOptions,
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const api = await connectApi(context);
  const { peerId, name } = await findPeer(api, agent);
  const deadline = AbortSignal.timeout(1_000 * timeout);
  const signal = AbortSignal.any([context.signal, deadline]);
  let answer = await api.drainPeer(peerId, { drained: true, reason });
  while (wait && !answer.released) {
    await delay(lookMs, undefined, { signal }).catch(() => undefined);
    if (context.signal.aborted) throw context.signal.reason;
    if (deadline.aborted) {
      throw new RingfoldError("REQUEST_TIMEOUT", `a job or a deployment needs ${name} after ${timeout} s`, {
        remedy: "It stays out of service. See `ringfold jobs` and `ringfold deploy list` for what needs it.",
      });
    }
    answer = await api.drainPeer(peerId, { drained: true, reason });
  }
  const what = answer.released ? "nothing needs it any more" : "its work is being moved";
  return { json: answer, text: `${name} is out of service; ${what}` };
}

/** @throws RingfoldError NOT_FOUND | USAGE when it may be several */
async function findPeer(api: ApiClient, agent: string): Promise<PeerView> {
  const peers = await api.peers();
  const all = peers.filter(({ name, peerId }) => name === agent || peerId.endsWith(agent));
  // A machine that was set up anew may have its old name.
  const present = all.filter(({ state }) => state !== "away");
  const found = present.length > 0 ? present : all;
  if (found.length > 1)
    throw new RingfoldError("USAGE", `${agent} may be ${found.length} agents: give more of the peer id`);
  if (found[0]) return found[0];
  throw new RingfoldError("NOT_FOUND", `there is no agent ${agent}`, { agent });
}

async function peerTable(peers: readonly PeerView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const { formatBytes, formatPercent } = await import("./present/quantity.ts");
  const { shortPeer } = await import("../../protocol/ids.ts");
  return formatTable(
    [
      "peer",
      "name",
      "state",
      "roles",
      "engine",
      "gpu",
      "gpu memory",
      "gflops",
      "cpu",
      "memory",
      "labels",
      "gateway",
    ],
    peers.map(({ peerId, name, state, flapping, roles, capabilities, load, gatewayUrl }) => [
      shortPeer(peerId),
      name,
      flapping ? `${state}, flapping` : state,
      roles.join(","),
      capabilities.engine,
      gpuText(capabilities),
      gpuMemoryText(capabilities),
      capabilities.gflops.toFixed(1),
      formatPercent(load.cpu, 0),
      formatBytes(load.residentBytes),
      labelText(capabilities.labels) || "-",
      gatewayUrl ?? "-",
    ]),
  );
}

/** Its own names for them, where it has such; an engine may know less. */
const gpuText = ({ gpus, gpu }: Capabilities): string => {
  const counts = Map.groupBy(gpus, ({ name }) => name);
  const names = [...counts].map(([name, { length }]) => (length === 1 ? name : `${length} x ${name}`));
  return names.join(", ") || (gpu ?? "-");
};

const gpuMemoryText = ({ gpus }: Capabilities): string => {
  const bytes = largestGpu(gpus)?.memoryBytes ?? null;
  return bytes === null ? "-" : sizeText(bytes);
};
