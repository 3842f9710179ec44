import { join } from "node:path";
import type { Command } from "commander";
import type { RunningCoordinator } from "../run/run-coordinator.ts";
import { type Endpoint, endpointOption, positiveInteger, replicas } from "./arguments.ts";
import { type CommandIo, ringfoldHome, runCommand } from "./command.ts";
import { addEtcdOptions, type EtcdOptions, locateEtcd } from "./etcd-options.ts";

interface CoordinatorOptions extends EtcdOptions {
  readonly data?: string;
  readonly name: string;
  readonly listen: Endpoint;
  readonly http: Endpoint;
  readonly keepDecisions?: number;
  readonly replicas?: number;
}

export function register(program: Command, io: CommandIo): void {
  const command = program
    .command("coordinator")
    .description("run the coordinator of a cluster, with its HTTP API and dashboard")
    .option("--data <folder>", "where its state lives; ~/.ringfold/coordinator unless told")
    .option("--name <name>", "name of the cluster, when it is made", "ringfold")
    .addOption(endpointOption("--listen <host:port>", "where agents reach it", "0.0.0.0:7071"))
    .addOption(endpointOption("--http <host:port>", "API and dashboard", "127.0.0.1:7070"))
    .option("--keep-decisions <count>", "decisions that the log keeps; 10,000 unless told", positiveInteger)
    .option(
      "--replicas <count>",
      "agents that hold each version and data set, up to 16; 2 unless told",
      replicas,
    );
  addEtcdOptions(command, " for several coordinators; else a folder of its own").action(
    (_options: unknown, command: Command) =>
      runCommand<CoordinatorOptions>(command, io, async ({ common, signal, note }, options) => {
        const { runCoordinator } = await import("../run/run-coordinator.ts");
        const { createLog } = await import("../run/logger.ts");
        const { keepHeapSmall } = await import("../run/small-heap.ts");
        const { untilStopped } = await import("../run/until-stopped.ts");
        const { nameSchema } = await import("../../protocol/ids.ts");
        const { validate } = await import("../../protocol/codec.ts");
        keepHeapSmall();
        const config = {
          dataPath: options.data ?? join(ringfoldHome(io.env), "coordinator"),
          clusterName: validate(options.name, nameSchema, "--name"),
          listen: options.listen,
          http: options.http,
          decisionsKept: options.keepDecisions,
          replicaCount: options.replicas,
        };
        const log = createLog("coordinator", io.env.RINGFOLD_LOG ?? "info");
        const onLeading = ({ close: _, ...ready }: RunningCoordinator) => {
          if (common.json) return void io.stdout.write(`${JSON.stringify({ ready: true, ...ready })}\n`);
          note(`Cluster ${ready.clusterName}: dashboard at ${ready.httpUrl}`);
          note(`To add a machine, run there:\n  ringfold agent --join ${ready.joinToken}`);
        };
        const etcd = await locateEtcd(options, io.env);
        if (etcd) {
          const { runCandidate } = await import("../run/run-candidate.ts");
          const onStandby = (leader: string) => {
            if (common.json) io.stdout.write(`${JSON.stringify({ standby: true, leader })}\n`);
            else note(`Stands by; ${leader} leads`);
          };
          const stopped = new AbortController();
          void untilStopped(signal).then(() => stopped.abort());
          await runCandidate(config, etcd, { log, signal: stopped.signal, onLeading, onStandby });
          return undefined;
        }
        const running = await runCoordinator(config, log);
        onLeading(running);
        await untilStopped(signal);
        await running.close();
        return undefined;
      }),
  );
}
