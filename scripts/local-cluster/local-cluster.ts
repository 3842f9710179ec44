import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type ReadyProcess, startReadyProcess } from "./ready-process.ts";

const coordinatorReadySchema = z.object({
  peerId: z.string(),
  clusterName: z.string(),
  httpUrl: z.string(),
  addresses: z.array(z.string()),
  operatorToken: z.string(),
  joinToken: z.string(),
});
const agentReadySchema = z.object({
  name: z.string(),
  peerId: z.string(),
  gatewayUrl: z.string(),
  engine: z.object({ name: z.string(), reason: z.string(), gflops: z.number() }),
});
export type CoordinatorProcess = ReadyProcess<z.infer<typeof coordinatorReadySchema>>;
export type AgentProcess = ReadyProcess<z.infer<typeof agentReadySchema>>;

/** Starts one agent process. @throws RingfoldError what the agent failed with */
export const startAgentProcess = (
  options: { readonly parameters: readonly string[] } & Omit<
    Parameters<typeof startReadyProcess>[1],
    "schema"
  >,
): Promise<AgentProcess> =>
  startReadyProcess(["agent", ...options.parameters], { ...options, schema: agentReadySchema });

export interface LocalClusterOptions {
  /** Data folders and logs of all processes. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly engine?: string;
  /** For the Node of each process. */
  readonly nodeOptions?: readonly string[];
  /** Agents may run scripts, with this Python. */
  readonly python?: string;
  /** What a training may take of an agent's memory. */
  readonly memoryLimitMb?: number;
  /** Agents that hold each data set and version; as many as the coordinator's default unless told. */
  readonly replicas?: number;
}

/**
 * A cluster of real processes on this machine, on loopback: the demo, the end-to-end tests and the chaos run use it.
 * `stop` leaves no process behind; were this process killed, the others notice and end by themselves.
 */
export class LocalCluster {
  readonly #options: LocalClusterOptions;
  readonly #agents = new Map<string, AgentProcess>();
  #coordinator: CoordinatorProcess | undefined;

  constructor(options: LocalClusterOptions) {
    this.#options = options;
  }

  /** Starts the coordinator, or starts it again on the ports that it had. */
  async startCoordinator(): Promise<CoordinatorProcess> {
    const before = this.#coordinator?.ready;
    const port = /\/tcp\/(\d+)/.exec(before?.addresses[0] ?? "")?.[1] ?? "0";
    const httpPort = before ? new URL(before.httpUrl).port : "0";
    const { replicas } = this.#options;
    const copies = replicas === undefined ? [] : ["--replicas", `${replicas}`];
    this.#coordinator = await this.#start(
      ["coordinator", "--listen", `127.0.0.1:${port}`, "--http", `127.0.0.1:${httpPort}`, ...copies],
      "coordinator",
      coordinatorReadySchema,
    );
    return this.#coordinator;
  }

  /**
   * Starts an agent, or starts it again with the identity that it had.
   * @param label as `room=a`
   */
  async startAgent(name: string, label?: string): Promise<AgentProcess> {
    const { engine = "auto", python, memoryLimitMb } = this.#options;
    const scripts = python === undefined ? [] : ["--allow-torch", "--python", python];
    const memory = memoryLimitMb === undefined ? [] : ["--memory-limit-mb", `${memoryLimitMb}`];
    const labels = label === undefined ? [] : ["--label", label];
    const ports = ["--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0"];
    const agent = await this.#start(
      ["agent", "--name", name, "--engine", engine, ...scripts, ...memory, ...labels, ...ports],
      name,
      agentReadySchema,
    );
    this.#agents.set(name, agent);
    return agent;
  }

  get coordinator(): CoordinatorProcess {
    if (!this.#coordinator) throw new Error("the coordinator was not started");
    return this.#coordinator;
  }

  agent(name: string): AgentProcess {
    const agent = this.#agents.get(name);
    if (!agent) throw new Error(`agent ${name} was not started`);
    return agent;
  }

  liveAgents(): AgentProcess[] {
    return [...this.#agents.values()].filter(({ exited }) => !exited);
  }

  logPath(name: string): string {
    return join(this.#options.folder, `${name}.log`);
  }

  /** Ends everything, agents first: they say goodbye to somebody who is still there. */
  async stop(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.stop()));
    await this.#coordinator?.stop();
  }

  async #start<Ready>(
    parameters: readonly string[],
    name: string,
    schema: z.ZodType<Ready>,
  ): Promise<ReadyProcess<Ready>> {
    const { folder, signal, nodeOptions = [] } = this.#options;
    const dataPath = join(folder, name);
    await mkdir(dataPath, { recursive: true });
    return startReadyProcess([...parameters, "--data", dataPath], {
      schema,
      logPath: this.logPath(name),
      // A token on the command line would stand in every user's process list.
      env: { ...process.env, RINGFOLD_HOME: folder, RINGFOLD_JOIN: this.#coordinator?.ready.joinToken },
      ...{ nodeOptions, signal },
    });
  }
}
