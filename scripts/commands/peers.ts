import type { Command } from "commander";
import type { PeerView } from "../../protocol/messages/api.ts";
import { type CommandIo, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  program
    .command("peers")
    .description("list the agents of the cluster and what they compute with")
    .action((_options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const peers = await (await connectApi(context)).peers();
        return { json: peers, text: peers.length === 0 ? "no agents yet" : await peerTable(peers) };
      }),
    );
}

async function peerTable(peers: readonly PeerView[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const { formatBytes, formatPercent } = await import("./present/quantity.ts");
  const { shortPeer } = await import("../../protocol/ids.ts");
  return formatTable(
    ["peer", "name", "state", "roles", "engine", "gpu", "gflops", "cpu", "memory", "gateway"],
    peers.map(({ peerId, name, state, flapping, roles, capabilities, load, gatewayUrl }) => [
      shortPeer(peerId),
      name,
      flapping ? `${state}, flapping` : state,
      roles.join(","),
      capabilities.engine,
      capabilities.gpu ?? "-",
      capabilities.gflops.toFixed(1),
      formatPercent(load.cpu, 0),
      formatBytes(load.residentBytes),
      gatewayUrl ?? "-",
    ]),
  );
}
