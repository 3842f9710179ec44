import { hostname } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Labels } from "../../protocol/needs.ts";
import { type Endpoint, endpointOption, label, positiveInteger } from "./arguments.ts";
import { type CommandIo, ringfoldHome, runCommand } from "./command.ts";

interface AgentOptions {
  readonly join?: string;
  readonly data?: string;
  readonly name?: string;
  readonly listen: Endpoint;
  readonly gateway: Endpoint;
  readonly engine: string;
  readonly allowTorch: boolean;
  readonly python: string;
  readonly memoryLimitMb?: number;
  readonly label?: Labels;
  readonly joinTimeout: number;
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("agent")
    .description("put this machine into a cluster, to train and to serve")
    .option("--join <token>", "from `ringfold token`; needed once (env RINGFOLD_JOIN)")
    .option("--data <folder>", "where its identity and artefacts live; ~/.ringfold/agent unless told")
    .option("--name <name>", "what people see; the host name unless told")
    .addOption(
      endpointOption(
        "--listen <host:port>",
        "where other members reach it; port 0 takes a free one",
        "0.0.0.0:0",
      ),
    )
    .addOption(
      endpointOption("--gateway <host:port>", "HTTP predictions; port 0 takes a free one", "127.0.0.1:7080"),
    )
    .option("--engine <engine>", "auto, tensorflow, webgpu, wasm or cpu", "auto")
    .option(
      "--allow-torch",
      "let jobs bring PyTorch scripts, which may do here whatever this user may",
      false,
    )
    .option("--python <path>", "the Python that has torch", "python3")
    .option(
      "--memory-limit-mb <megabytes>",
      "what a training may take of the memory; all of it unless told",
      positiveInteger,
    )
    .option(
      "--label <name=value>",
      "jobs may ask for it, as room=a; may be repeated (env RINGFOLD_LABELS, with commas)",
      label,
    )
    .option("--join-timeout <seconds>", "how long the first joining may take", positiveInteger, 30)
    .action((_options: unknown, command: Command) =>
      runCommand<AgentOptions>(command, io, async ({ common, signal, note }, options) => {
        const { openAgent } = await import("../../agent/agent.ts");
        const { validate } = await import("../../protocol/codec.ts");
        const { nameSchema } = await import("../../protocol/ids.ts");
        const { engineNameSchema } = await import("../../protocol/job-spec.ts");
        const { limits } = await import("../../protocol/limits.ts");
        const { systemClock } = await import("../../protocol/ports.ts");
        const { listenHttp } = await import("../run/http-listener.ts");
        const { saveCompiledCode } = await import("../run/compile-cache.ts");
        const { createLog } = await import("../run/logger.ts");
        const { untilStopped } = await import("../run/until-stopped.ts");
        const name =
          options.name ??
          hostname()
            .toLowerCase()
            .replace(/[^a-z0-9._-]/g, "-");
        const logLevel = io.env.RINGFOLD_LOG ?? "info";
        const config = {
          dataPath: options.data ?? join(ringfoldHome(io.env), "agent"),
          name: validate(name, nameSchema, "--name"),
          listen: options.listen,
          gateway: options.gateway,
          token: options.join ?? io.env.RINGFOLD_JOIN,
          engine: validate(options.engine, engineNameSchema, "--engine"),
          python: options.allowTorch ? options.python : undefined,
          ...(options.memoryLimitMb === undefined ? {} : { memoryLimitBytes: 1e6 * options.memoryLimitMb }),
          labels: { ...labelsOf(io.env.RINGFOLD_LABELS), ...options.label },
          logLevel,
          joinTimeoutMs: 1_000 * options.joinTimeout,
        };
        const modules = { clock: systemClock, log: createLog(config.name, logLevel), listen: listenHttp };
        const agent = await openAgent(config, modules, signal);
        const { peerId, gatewayUrl, clusterName, engine } = agent;
        if (common.json) {
          io.stdout.write(
            `${JSON.stringify({ ready: true, name: agent.name, peerId, gatewayUrl, clusterName, engine })}\n`,
          );
        } else {
          note(`${agent.name} is in cluster ${clusterName}; predictions at ${gatewayUrl}`);
          note(engine.reason);
        }
        saveCompiledCode();
        await untilStopped(signal);
        if (!common.json) note("Leaving the cluster ...");
        await agent.leave(AbortSignal.timeout(limits.requestTimeoutMs));
        return undefined;
      }),
    );
}

/** `room=a,rack=3` @throws RingfoldError CONFIG_INVALID */
function labelsOf(text = ""): Labels {
  try {
    return text
      .split(",")
      .filter(Boolean)
      .reduce<Labels>((labels, one) => label(one.trim(), labels), {});
  } catch (cause) {
    const message = `RINGFOLD_LABELS=${text}: ${cause instanceof Error ? cause.message : cause}`;
    throw new RingfoldError("CONFIG_INVALID", message, { remedy: "Write it as room=a,rack=3." }, { cause });
  }
}
