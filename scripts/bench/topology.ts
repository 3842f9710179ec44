import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Command } from "commander";
import { z } from "zod";
import { loadPeerId } from "../../agent/network/identity.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { jobViewSchema, peerViewSchema } from "../../protocol/messages/api.ts";
import { startAgentProcess } from "../local-cluster/local-cluster.ts";
import { startReadyProcess } from "../local-cluster/ready-process.ts";
import {
  addDirectCable,
  openVirtualNetwork,
  shapeUplink,
  type VirtualMachine,
  whyNoVirtualNetworks,
} from "../local-cluster/virtual-network.ts";

/**
 * What the measured ring order is worth: four agents on machines of their own (network namespaces) with equal uplinks,
 * except that two of them, neighbours in the order of joining, are connected by a link of a tenth of the speed.
 */
const options = new Command("bench:topology")
  .option("--uplink <mbit>", "of each machine, Mbit/s", Number, 200)
  .option("--slow <mbit>", "of the slow link, Mbit/s", Number, 20)
  .option("--rounds <n>", "interleaved", Number, 3)
  .option("--json", "one JSON object on stdout", false)
  .parse()
  .opts<{ uplink: number; slow: number; rounds: number; json: boolean }>();

const obstacle = whyNoVirtualNetworks();
if (obstacle) {
  process.stderr.write(`bench:topology needs network namespaces (root, iproute2): ${obstacle}\n`);
  process.exit(new RingfoldError("CONFIG_INVALID", obstacle).rule.exit);
}

const settleMs = 10_000;

interface Row {
  readonly ringOrder: "as-joined" | "measured";
  readonly order: readonly string[];
  readonly predictedMs: number | null;
  /** Mean of a step's all-reduce, compute of slower ranks included. */
  readonly measuredMs: number;
}

const folder = await mkdtemp(join(tmpdir(), "ringfold-topology-"));
const ending = new AbortController();
const network = await openVirtualNetwork([5], { routed: false });
const processes: { stop(): Promise<void> }[] = [];
const note = (line: string) => void process.stderr.write(`${line}\n`);
try {
  const rows = await measure(network.machines[0]!);
  const ratio = median(rows, "as-joined") / median(rows, "measured");
  if (options.json) process.stdout.write(`${JSON.stringify({ ...options, rows, ratio })}\n`);
  else {
    for (const row of rows) {
      process.stdout.write(
        `${row.ringOrder.padEnd(10)} ${row.order.join(" > ")}  predicted ${row.predictedMs?.toFixed(0)} ms  measured ${row.measuredMs.toFixed(0)} ms\n`,
      );
    }
    process.stdout.write(`the measured order is ${ratio.toFixed(1)} times as fast\n`);
  }
} finally {
  await Promise.all(processes.toReversed().map((each) => each.stop()));
  await network.close();
  await rm(folder, { recursive: true });
}

async function measure([home, ...machines]: readonly VirtualMachine[]): Promise<Row[]> {
  const names = await namesInRingOrder(machines.length);
  for (const machine of machines) await shapeUplink(machine, options.uplink);
  await addDirectCable(machines[0]!, machines[1]!, options.slow);
  note(`uplinks ${options.uplink} Mbit/s; ${names[0]} - ${names[1]} ${options.slow} Mbit/s`);

  const coordinator = await startReadyProcess(["coordinator", "--data", join(folder, "coordinator")], {
    ...processOptions("coordinator", home!),
    schema: z.object({ joinToken: z.string() }),
  });
  processes.push(coordinator);
  for (const [i, name] of names.entries()) {
    const parameters = ["--data", join(folder, name), "--name", name, "--join", coordinator.ready.joinToken];
    processes.push(await startAgentProcess({ parameters, ...processOptions(name, machines[i]!) }));
  }
  await untilLinksAreKnown(home!, names.length);

  const rows: Row[] = [];
  for (let round = 0; round < options.rounds; round++) {
    for (const ringOrder of ["as-joined", "measured"] as const) rows.push(await train(home!, ringOrder));
  }
  return rows;
}

/** Agents whose peer ids, and so their order of joining, are known before they start. */
async function namesInRingOrder(count: number): Promise<string[]> {
  const agents: { peerId: string; path: string }[] = [];
  for (let i = 0; i < count; i++) {
    const path = join(folder, `made-${i}`);
    agents.push({ path, peerId: await loadPeerId(join(path, "identity.key")) });
  }
  agents.sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
  return agents.map(({ path }) => path.slice(folder.length + 1));
}

function processOptions(name: string, { wrapper }: VirtualMachine) {
  const env = { ...process.env, RINGFOLD_HOME: folder };
  return { logPath: join(folder, `${name}.log`), env, wrapper, signal: ending.signal };
}

/** An operator's command, where the coordinator runs. */
async function ringfold(home: VirtualMachine, ...parameters: string[]): Promise<unknown> {
  const launcher = fileURLToPath(new URL("../ringfold", import.meta.url));
  const [command, ...rest] = [...home.wrapper, launcher, ...parameters, "--json"];
  const { stdout } = await promisify(execFile)(command!, rest, {
    env: { ...process.env, RINGFOLD_HOME: folder },
  });
  return JSON.parse(stdout);
}

async function untilLinksAreKnown(home: VirtualMachine, count: number): Promise<void> {
  const deadline = AbortSignal.timeout(60_000);
  await delay(settleMs); // every link is looked at three times, one after the other
  while (!deadline.aborted) {
    const peers = z.array(peerViewSchema).parse(await ringfold(home, "peers"));
    if (peers.length === count && peers.every(({ links }) => links.length === count - 1)) {
      for (const { name, links } of peers) {
        const speeds = links.map(({ bytesPerSecond }) => `${((8 * bytesPerSecond) / 1e6).toFixed(0)}`);
        note(`${name} measured ${speeds.join(", ")} Mbit/s`);
      }
      return;
    }
  }
  throw new RingfoldError("REQUEST_TIMEOUT", "the links were not measured in time");
}

async function train(home: VirtualMachine, ringOrder: Row["ringOrder"]): Promise<Row> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, "job.yaml");
  await writeFile(
    path,
    `name: topology
model: { architecture: mlp, hidden: [512] }
data: { source: mnist, trainExamples: 768, testExamples: 100 }
batchSize: 64
workers: { min: 4, max: 4 }
ringOrder: ${ringOrder}
`,
  );
  const job = jobViewSchema.parse(await ringfold(home, "train", path));
  const peers = z.array(peerViewSchema).parse(await ringfold(home, "peers"));
  const { ranks, predictedCommunicationMs } = job.generations[0]!;
  const order = ranks.map((peerId) => peers.find((peer) => peer.peerId === peerId)?.name ?? peerId);
  const row = {
    ringOrder,
    order,
    predictedMs: predictedCommunicationMs,
    measuredMs: job.progress!.communicationMs,
  };
  note(`${ringOrder}: ${row.measuredMs.toFixed(0)} ms`);
  return row;
}

function median(rows: readonly Row[], ringOrder: Row["ringOrder"]): number {
  const values = rows.filter((row) => row.ringOrder === ringOrder).map(({ measuredMs }) => measuredMs);
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
