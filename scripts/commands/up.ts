import { join } from "node:path";
import type { Command } from "commander";
import { toRingfoldError } from "../../protocol/errors.ts";
import type { Labels } from "../../protocol/needs.ts";
import { systemClock } from "../../protocol/ports.ts";
import { type Endpoint, endpointOption, label } from "./arguments.ts";
import { type CommandContext, type CommandIo, ringfoldHome, runCommand } from "./command.ts";
import { formatDuration } from "./present/quantity.ts";

interface UpOptions {
  readonly data?: string;
  readonly http: Endpoint;
  readonly listen: Endpoint;
  readonly gateway: Endpoint;
  readonly engine: string;
  readonly allowTorch: boolean;
  readonly python: string;
  readonly label?: Labels;
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("up")
    .description("run a coordinator, an agent and the dashboard on this machine")
    .option("--data <folder>", "where everything is kept; ~/.ringfold unless told")
    .addOption(endpointOption("--http <host:port>", "API and dashboard", "127.0.0.1:7070"))
    .addOption(
      endpointOption("--listen <host:port>", "where more agents reach the coordinator", "0.0.0.0:7071"),
    )
    .addOption(endpointOption("--gateway <host:port>", "HTTP predictions", "127.0.0.1:7080"))
    .option("--engine <engine>", "auto, tensorflow, webgpu, wasm or cpu", "auto")
    .option(
      "--allow-torch",
      "let jobs bring PyTorch scripts, which may do here whatever this user may",
      false,
    )
    .option("--python <path>", "the Python that has torch", "python3")
    .option("--label <name=value>", "jobs may ask for it, as room=a; may be repeated", label)
    .action((_options: unknown, command: Command) => runCommand<UpOptions>(command, io, up));
}

/** The coordinator lives in this process, the agent in a child that ends with it. */
async function up({ io, common, signal, note }: CommandContext, options: UpOptions): Promise<undefined> {
  const { startAgentProcess } = await import("../local-cluster/local-cluster.ts");
  const { createLog } = await import("../run/logger.ts");
  const { runCoordinator } = await import("../run/run-coordinator.ts");
  const { keepRunning } = await import("../run/kept-process.ts");
  const { keepHeapSmall } = await import("../run/small-heap.ts");
  const { untilStopped } = await import("../run/until-stopped.ts");
  const home = options.data ?? ringfoldHome(io.env);
  keepHeapSmall();
  const coordinator = await runCoordinator(
    {
      dataPath: join(home, "coordinator"),
      clusterName: "ringfold",
      listen: options.listen,
      http: options.http,
    },
    createLog("coordinator", io.env.RINGFOLD_LOG ?? "warn"),
  );
  try {
    const logPath = join(home, "agent.log");
    const start = () =>
      startAgentProcess({
        parameters: [
          ...["--data", join(home, "agent"), "--engine", options.engine],
          ...(options.allowTorch ? ["--allow-torch", "--python", options.python] : []),
          ...Object.entries(options.label ?? {}).flatMap(([name, value]) => ["--label", `${name}=${value}`]),
          ...["--listen", `${options.listen.host}:0`],
          ...["--gateway", `${options.gateway.host}:${options.gateway.port}`],
        ],
        ...{ logPath, signal },
        env: { ...io.env, RINGFOLD_HOME: home, RINGFOLD_JOIN: coordinator.joinToken },
      });
    const agent = await start();
    const { httpUrl, clusterName, joinToken } = coordinator;
    const { gatewayUrl, engine } = agent.ready;
    if (common.json) {
      io.stdout.write(
        `${JSON.stringify({ ready: true, dashboardUrl: httpUrl, gatewayUrl, clusterName, joinToken, engine: engine.name })}\n`,
      );
    } else {
      note(`Dashboard    ${httpUrl}`);
      note(`Predictions  ${gatewayUrl}`);
      note(engine.reason);
      note(`Next: ringfold train examples/digits/job.yaml`);
      note(`To add a machine, run there:\n  ringfold agent --join ${joinToken}`);
    }
    const stopped = new AbortController();
    void untilStopped(signal).then(() => {
      if (!common.json) note("Stopping ...");
      stopped.abort();
    });
    await keepRunning(agent, {
      ...{ start, clock: systemClock, signal: stopped.signal },
      onEnded: (pauseMs, failure) => {
        const what = failure
          ? `The agent does not start: ${toRingfoldError(failure).message}`
          : "The agent has ended";
        note(`${what} (${logPath} says why); it is started again in ${formatDuration(pauseMs)}.`);
      },
    });
  } finally {
    await coordinator.close();
  }
}
