import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { type CommandIo, reportError } from "../commands/command.ts";
import { LocalCluster } from "../local-cluster/local-cluster.ts";
import { createStage } from "./stage.ts";
import { runStory } from "./story.ts";

/**
 * `npm run demo`: a whole cluster on this machine, in one go. Everything in it is real: processes, sockets, data,
 * training, the SIGKILL and the predictions.
 */
const program = new Command("demo")
  .description("start a coordinator and four agents, train on MNIST, lose one, serve the result")
  .option("--json", "print the summary as one JSON object on stdout", false)
  .option("--keep", "leave the cluster up until Ctrl-C", false)
  .parse();
const options = program.opts<{ json: boolean; keep: boolean }>();

const io: CommandIo = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  exitCode: { value: 0 },
};
const interrupt = new AbortController();
process.on("SIGINT", () => interrupt.abort());
process.on("SIGTERM", () => interrupt.abort());

const folder = await mkdtemp(join(tmpdir(), "ringfold-demo-"));
const cluster = new LocalCluster({ folder, signal: interrupt.signal });
const stage = createStage(options.json ? process.stderr : process.stdout);
let keepLogs = false;
try {
  const summary = await runStory({ cluster, stage, signal: interrupt.signal });
  if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  else stage.summary(summary);
  if (options.keep) await stage.keepUntil(interrupt.signal, summary.dashboardUrl);
} catch (cause) {
  keepLogs = !interrupt.signal.aborted;
  process.exitCode = interrupt.signal.aborted ? 130 : reportError(cause, { io, json: options.json });
  if (keepLogs) stage.say(`The logs of all processes are in ${folder}`);
} finally {
  stage.close();
  await cluster.stop();
  if (!keepLogs) await rm(folder, { recursive: true, force: true });
}
