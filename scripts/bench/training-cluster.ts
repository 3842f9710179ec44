import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { type JobView, jobViewSchema, peerViewSchema } from "../../protocol/messages/api.ts";
import { createApiClient } from "../commands/api-client.ts";
import { waitForView } from "../commands/follow/cluster-follower.ts";
import { LocalCluster, startAgentProcess } from "../local-cluster/local-cluster.ts";
import { startReadyProcess } from "../local-cluster/ready-process.ts";
import { openVirtualNetwork, shapeUplink, type VirtualMachine } from "../local-cluster/virtual-network.ts";

/** A coordinator and agents, real processes, to train one job after the other on. */
export interface TrainingCluster {
  /** The job when it is over, however. */
  train(spec: JobSpec, signal: AbortSignal): Promise<JobView>;
  stop(): Promise<void>;
}

export interface TrainingClusterOptions {
  /** Data folders and logs. */
  readonly folder: string;
  readonly agentCount: number;
  readonly signal: AbortSignal;
}

const agentNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `agent-${i + 1}`);

/** All on loopback. */
export async function openLoopbackCluster(options: TrainingClusterOptions): Promise<TrainingCluster> {
  const cluster = new LocalCluster(options);
  const { httpUrl, operatorToken } = (await cluster.startCoordinator()).ready;
  await Promise.all(agentNames(options.agentCount).map((name) => cluster.startAgent(name)));
  return {
    train: async (spec, signal) => {
      const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal });
      const { id } = await api.submitJob(spec);
      return waitForView(api, { signal, note: () => {} }, ({ jobs }) =>
        jobs.find((job) => job.id === id && job.endedAtMs !== null),
      );
    },
    stop: () => cluster.stop(),
  };
}

/** Each process on a machine of its own (a network namespace), whose uplink is no faster than that; see `whyNoVirtualNetworks`. */
export async function openShapedCluster(
  options: TrainingClusterOptions & { readonly uplinkMbit: number },
): Promise<TrainingCluster> {
  const { folder, agentCount, signal, uplinkMbit } = options;
  const network = await openVirtualNetwork([agentCount + 1], { routed: false });
  const processes: { stop(): Promise<void> }[] = [];
  const stop = async () => {
    await Promise.all(processes.toReversed().map((each) => each.stop()));
    await network.close();
  };
  const env = { ...process.env, RINGFOLD_HOME: folder };
  const on = ({ wrapper }: VirtualMachine, name: string) => ({
    ...{ env, wrapper, signal, logPath: join(folder, `${name}.log`) },
  });
  try {
    const [home, ...machines] = network.machines[0]! as [VirtualMachine, ...VirtualMachine[]];
    for (const machine of machines) await shapeUplink(machine, uplinkMbit);
    const coordinator = await startReadyProcess(["coordinator", "--data", join(folder, "coordinator")], {
      ...on(home, "coordinator"),
      schema: z.object({ joinToken: z.string() }),
    });
    processes.push(coordinator);
    for (const [i, name] of agentNames(agentCount).entries()) {
      const parameters = [
        "--data",
        join(folder, name),
        "--name",
        name,
        "--join",
        coordinator.ready.joinToken,
      ];
      processes.push(await startAgentProcess({ parameters, ...on(machines[i]!, name) }));
    }
    const ringfold = commandOn(home, env);
    const joined = async () => z.array(peerViewSchema).parse(await ringfold(["peers"], signal)).length;
    while ((await joined()) < agentCount) await delay(500, undefined, { signal });
    return {
      train: async (spec, until) => {
        const path = join(folder, "job.yaml");
        await writeFile(path, JSON.stringify(spec));
        return jobViewSchema.parse(await ringfold(["train", path], until));
      },
      stop,
    };
  } catch (cause) {
    await stop();
    throw cause;
  }
}

/** An operator's commands, on that machine. */
function commandOn({ wrapper }: VirtualMachine, env: NodeJS.ProcessEnv) {
  const launcher = fileURLToPath(new URL("../ringfold", import.meta.url));
  return async (parameters: readonly string[], signal: AbortSignal): Promise<unknown> => {
    const [command, ...rest] = [...wrapper, launcher, ...parameters, "--json"];
    const { stdout } = await promisify(execFile)(command!, rest, { env, signal });
    return JSON.parse(stdout);
  };
}
