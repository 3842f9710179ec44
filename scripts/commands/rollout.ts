import { type Command, InvalidArgumentError } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { RolloutOrder, RolloutRequest, RolloutView } from "../../protocol/messages/rollout.ts";
import type { ApiClient } from "./api-client.ts";
import {
  duration,
  plainName,
  positiveInteger,
  type VersionSelector,
  versionSelector,
  wholeNumber,
} from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface StartOptions {
  readonly steps?: number[];
  /** Seconds. */
  readonly hold?: number;
  readonly progressDeadline?: number;
  readonly maxErrorRate?: number;
  readonly maxLatencyRatio?: number;
  /** Milliseconds. */
  readonly latencySlack?: number;
  readonly minRequests?: number;
  readonly shards?: number;
  readonly replicas?: number;
  readonly alias?: string;
  readonly follow: boolean;
}

export function register(program: Command, io: CommandIo): void {
  const rollout = program
    .command("rollout")
    .description(
      "let a version take over from the live one in steps, as long as it is as good; list, steer or end that",
    )
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  rollout
    .command("list")
    .description("list the last rollout of each name")
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  rollout
    .command("start")
    .argument("<name@n>", "for example digits@2, or digits@canary by an alias", versionSelector)
    .description("place a version beside the live one, and give it more and more of the requests")
    .option("--steps <percents>", "of the requests, step by step (5,25,50,100)", percents)
    .option("--hold <time>", "how long each step is held at least (60s)", duration)
    .option("--max-error-rate <share>", "by how much more often it may fail than the live one (2%)", share)
    .option("--max-latency-ratio <ratio>", "how many times as long its slowest 5% may take (1.5)", ratio)
    .option(
      "--latency-slack <ms>",
      "milliseconds that are no difference, whatever the ratio (10)",
      wholeNumber,
    )
    .option("--min-requests <count>", "to each side, before a step is over (100)", positiveInteger)
    .option(
      "--progress-deadline <time>",
      "how long it may lack replicas before it is given up (10m)",
      duration,
    )
    .option("--shards <count>", "as the live one has them unless told", positiveInteger)
    .option("--replicas <count>", "of each shard, as the live one has them unless told", positiveInteger)
    .option("--alias <alias>", "points to it from the moment in which it is live")
    .option("--follow", "follow it to its end, as `rollout status` does", false)
    .action((reference: VersionSelector, _options: unknown, command: Command) =>
      runCommand<StartOptions>(command, io, (context, options) => start(reference, context, options)),
    );

  rollout
    .command("show")
    .argument("<name>", "for example digits", plainName)
    .description("show where a rollout stands, and what it is judged by")
    .action((name: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        return rolloutResult(await (await connectApi(context)).rollout(name));
      }),
    );

  rollout
    .command("status")
    .argument("<name>", "for example digits", plainName)
    .description("follow a rollout to its end; exit code 1 when it was not promoted")
    .action((name: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        return follow(api, await api.rollout(name), context);
      }),
    );

  const order = (name: RolloutOrder, description: string) =>
    rollout
      .command(name)
      .argument("<name>", "for example digits", plainName)
      .option("--reason <text>", "why, for the event log", "")
      .description(description)
      .action((of: string, _options: unknown, command: Command) =>
        runCommand<{ readonly reason: string; readonly full?: boolean }>(
          command,
          io,
          async (context, options) => {
            const { connectApi } = await import("./api-client.ts");
            return rolloutResult(await (await connectApi(context)).orderRollout(of, name, options));
          },
        ),
      );
  order("pause", "keep the weight as it is; a version that is worse is rolled back all the same");
  order("resume", "let a paused rollout go on, with the hold of its step from the beginning");
  order("promote", "go to the next step whatever the hold; after the last one, make it live").option(
    "--full",
    "make it live at once",
  );
  order("abort", "take the candidate away; the live version answers everything").alias("undo");
}

async function list(context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { rolloutTable } = await import("./present/rollout-text.ts");
  const rollouts = await (await connectApi(context)).rollouts();
  return { json: rollouts, text: rollouts.length === 0 ? "no rollouts yet" : rolloutTable(rollouts) };
}

async function start(
  { name, selector: version }: VersionSelector,
  context: CommandContext,
  options: StartOptions,
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const api = await connectApi(context);
  const {
    steps,
    hold,
    progressDeadline,
    latencySlack,
    shards,
    replicas,
    alias,
    follow: follows,
    ...rest
  } = options;
  const { maxErrorRate, maxLatencyRatio, minRequests } = rest;
  const bounds = given({ maxErrorRate, maxLatencyRatio, latencySlackMs: latencySlack, minRequests });
  const request: RolloutRequest = {
    ...{ name, version, bounds },
    ...given({
      steps,
      holdSeconds: hold,
      progressDeadlineSeconds: progressDeadline,
      shards,
      replicas,
      alias,
    }),
  };
  const rollout = await api.startRollout(request);
  if (follows) return await follow(api, rollout, context);
  const { text, json } = await rolloutResult(rollout);
  return {
    json,
    text: `${text}\n\nfollow: ringfold rollout status ${name}\nend:    ringfold rollout abort ${name}`,
  };
}

/** @throws RingfoldError JOB_FAILED when it was not promoted | CANCELLED when Ctrl-C detached us, and it goes on */
async function follow(api: ApiClient, begun: RolloutView, context: CommandContext): Promise<CommandResult> {
  const { waitForView } = await import("./follow/cluster-follower.ts");
  const { signal, note } = context;
  let told = "";
  const tell = ({ state, weight, reason, name, version }: RolloutView) => {
    const line = `${name}@${version} ${state} at ${weight}%: ${reason}`;
    if (line !== told) note(line);
    told = line;
  };
  try {
    const ended = await waitForView(api, { signal, note }, async ({ rollouts }) => {
      const ours = (one: RolloutView) => one.name === begun.name && one.number >= begun.number;
      const rollout = rollouts.find(ours) ?? (await api.rollout(begun.name));
      tell(rollout);
      return isOver(rollout) ? rollout : undefined;
    });
    if (ended.state === "promoted") return await rolloutResult(ended);
    const { name, version, state, reason } = ended;
    const remedy = `See both sides with \`ringfold rollout show ${name}\`.`;
    throw new RingfoldError("JOB_FAILED", `${name}@${version} ${state}: ${reason}`, { name, state, remedy });
  } catch (cause) {
    if (!signal.aborted) throw cause;
    const remedy = `Follow it again with \`ringfold rollout status ${begun.name}\`; end it with \`rollout abort\`.`;
    throw new RingfoldError(
      "CANCELLED",
      `detached: the rollout of ${begun.name} goes on`,
      { remedy },
      { cause },
    );
  }
}

const isOver = ({ endedAtMs }: RolloutView): boolean => endedAtMs !== null;

async function rolloutResult(rollout: RolloutView): Promise<CommandResult> {
  const { rolloutText } = await import("./present/rollout-text.ts");
  return { json: rollout, text: rolloutText(rollout) };
}

/** What was said; the coordinator has the defaults. */
const given = <T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;

/** `5,25,50,100` */
function percents(text: string): number[] {
  const steps = text.split(",").map((step) => Number(step.replace(/%$/, "")));
  const isRising = steps.every((step, i) => Number.isInteger(step) && step > (steps[i - 1] ?? 0));
  if (isRising && steps.at(-1)! <= 100) return steps;
  throw new InvalidArgumentError("Give rising percents, for example 5,25,50,100.");
}

/** `2%`, or `0.02` */
function share(text: string): number {
  const [, number, percent] = /^([0-9]+(?:\.[0-9]+)?)(%?)$/.exec(text) ?? [];
  const value = Number(number) / (percent ? 100 : 1);
  if (value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError("Give a share, for example 2% or 0.02.");
}

function ratio(text: string): number {
  const value = Number(text);
  if (/^[0-9]+(\.[0-9]+)?$/.test(text) && value >= 1 && value <= 100) return value;
  throw new InvalidArgumentError("Give a number from 1 to 100, for example 1.5.");
}
