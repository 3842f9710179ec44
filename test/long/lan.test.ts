import { execFile } from "node:child_process";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test, vi } from "vitest";
import { z } from "zod";
import { type AgentProcess, startAgentProcess } from "../../scripts/local-cluster/local-cluster.ts";
import { type ReadyProcess, startReadyProcess } from "../../scripts/local-cluster/ready-process.ts";
import { type VirtualMachine, whyNoVirtualNetworks } from "../../scripts/local-cluster/virtual-network.ts";
import { useNetworkBench } from "../fixtures/network-bench.ts";

/** Real processes on virtual machines: how agents find their coordinator and each other without being told. */

const obstacle = whyNoVirtualNetworks();
const testTimeoutMs = 60_000;
const peersSchema = z.array(
  z.object({ peerId: z.string(), name: z.string(), state: z.string(), lastSeenMs: z.number() }),
);
const coordinatorSchema = z.object({ peerId: z.string(), joinToken: z.string() });
type CoordinatorProcess = ReadyProcess<z.infer<typeof coordinatorSchema>>;
const jobFile = `name: lan
model: { architecture: mlp, hidden: [16] }
data: { source: mnist, trainExamples: 512, testExamples: 200 }
optimizer: { kind: adam, learningRate: 0.001 }
batchSize: 64
epochs: 1
workers: { min: 2, max: 2 }
`;

const bench = useNetworkBench("ringfold-lan-");

/** One cluster: its coordinator on a machine, and the commands of its operator there. */
class TestCluster {
  readonly #name: string;
  readonly #machine: VirtualMachine;

  constructor(name: string, machine: VirtualMachine) {
    this.#name = name;
    this.#machine = machine;
  }

  /** Starts the coordinator on port 7071, or on another one. */
  async start(...options: string[]): Promise<CoordinatorProcess> {
    const data = await this.#dataFolder("coordinator");
    const coordinator = await startReadyProcess(["coordinator", "--data", data, ...options], {
      ...this.#processOptions("coordinator", this.#machine),
      schema: coordinatorSchema,
    });
    bench.processes.push(coordinator);
    return coordinator;
  }

  async startAgent(name: string, machine: VirtualMachine, token: string): Promise<AgentProcess> {
    const data = await this.#dataFolder(name);
    const agent = await startAgentProcess({
      parameters: ["--data", data, "--name", name, "--join", token, "--engine", "wasm"],
      ...this.#processOptions(name, machine),
    });
    bench.processes.push(agent);
    return agent;
  }

  /** A second machine that was made from the disk of the first. */
  async startCopy(of: string, machine: VirtualMachine, token: string): Promise<AgentProcess> {
    const copy = `${of}-copy`;
    await cp(join(this.#home, of), join(this.#home, copy), { recursive: true });
    return this.startAgent(copy, machine, token);
  }

  /** A token that does not say where the coordinator is. */
  async tokenWithoutAddresses(): Promise<string> {
    const made = JSON.parse(await this.#ringfold("token", "--no-addresses"));
    return z.object({ token: z.string() }).parse(made).token;
  }

  async peers(): Promise<z.infer<typeof peersSchema>> {
    return peersSchema.parse(JSON.parse(await this.#ringfold("peers")));
  }

  async untilAlive(names: readonly string[]): Promise<void> {
    await vi.waitFor(
      async () => {
        const alive = (await this.peers()).filter(({ state }) => state === "alive");
        expect(new Set(alive.map(({ name }) => name))).toEqual(new Set(names));
      },
      { timeout: 15_000, interval: 200 },
    );
  }

  async train(): Promise<unknown> {
    const path = join(bench.folder, "job.yaml");
    await writeFile(path, jobFile);
    return JSON.parse(await this.#ringfold("train", path));
  }

  log(name: string): Promise<string> {
    return readFile(join(this.#home, `${name}.log`), "utf8");
  }

  get #home(): string {
    return join(bench.folder, this.#name);
  }

  async #dataFolder(name: string): Promise<string> {
    const path = join(this.#home, name);
    await mkdir(path, { recursive: true });
    return path;
  }

  #processOptions(name: string, { wrapper }: VirtualMachine) {
    return { logPath: join(this.#home, `${name}.log`), env: this.#env, wrapper, signal: bench.signal };
  }

  get #env(): NodeJS.ProcessEnv {
    return { ...process.env, RINGFOLD_HOME: this.#home, RINGFOLD_LOG: "debug" };
  }

  async #ringfold(...parameters: string[]): Promise<string> {
    const launcher = fileURLToPath(new URL("../../scripts/ringfold", import.meta.url));
    const [command, ...rest] = [...this.#machine.wrapper, launcher, ...parameters, "--json"];
    return (await promisify(execFile)(command!, rest, { env: this.#env, signal: bench.signal })).stdout;
  }
}

const succeeded = { state: "succeeded", generations: [{ ranks: [expect.any(String), expect.any(String)] }] };

test.skipIf(obstacle)(
  "on a LAN without a router agents find the coordinator by mDNS and train together",
  async () => {
    const [lan] = await bench.openNetwork([3], { routed: false });
    const cluster = new TestCluster("lan", lan![0]!);
    await cluster.start();
    const token = await cluster.tokenWithoutAddresses();
    await Promise.all([
      cluster.startAgent("anna", lan![1]!, token),
      cluster.startAgent("bert", lan![2]!, token),
    ]);
    await cluster.untilAlive(["anna", "bert"]);
    expect(await cluster.train()).toMatchObject(succeeded);
  },
  testTimeoutMs,
);

test.skipIf(obstacle)(
  "a coordinator that comes back at another port is found again",
  async () => {
    const [lan] = await bench.openNetwork([2], { routed: false });
    const cluster = new TestCluster("moved", lan![0]!);
    const coordinator = await cluster.start();
    await cluster.startAgent("anna", lan![1]!, await cluster.tokenWithoutAddresses());
    await coordinator.kill();
    await cluster.start("--listen", "0.0.0.0:7072");
    await cluster.untilAlive(["anna"]);
  },
  testTimeoutMs,
);

test.skipIf(obstacle)(
  "across routed subnets the token's address is enough to meet every member",
  async () => {
    const subnets = await bench.openNetwork([1, 1, 1], { routed: true });
    const [home, far, farther] = subnets.map(([machine]) => machine!);
    const cluster = new TestCluster("routed", home!);
    const { joinToken } = (await cluster.start()).ready;
    await Promise.all([
      cluster.startAgent("anna", far!, joinToken),
      cluster.startAgent("bert", farther!, joinToken),
    ]);
    await cluster.untilAlive(["anna", "bert"]);
    // No job runs yet: a socket between the two is one that members keep to each other.
    await vi.waitFor(
      async () => {
        const sockets = await far!.run("ss", "-Htn", "state", "established", "dst", farther!.address);
        expect(sockets).toContain(farther!.address);
      },
      { timeout: 10_000, interval: 200 },
    );
    expect(await cluster.train()).toMatchObject(succeeded);
  },
  testTimeoutMs,
);

test.skipIf(obstacle)(
  "two clusters of one name on one LAN do not see each other",
  async () => {
    const [lan] = await bench.openNetwork([4], { routed: false });
    const clusters = [new TestCluster("first", lan![0]!), new TestCluster("second", lan![1]!)];
    await Promise.all(clusters.map((cluster) => cluster.start()));
    const tokens = await Promise.all(clusters.map((cluster) => cluster.tokenWithoutAddresses()));
    await Promise.all(
      clusters.map((cluster, index) =>
        cluster.startAgent(`agent-${index}`, lan![2 + index]!, tokens[index]!),
      ),
    );
    for (const [index, cluster] of clusters.entries()) {
      await cluster.untilAlive([`agent-${index}`]);
      // Not even dialled: strangers that cannot get in would still cost a handshake every few seconds.
      for (const name of ["coordinator", `agent-${index}`]) {
        expect(await cluster.log(name)).not.toContain("Discovered a peer that cannot be dialled");
      }
    }
  },
  testTimeoutMs,
);

test.skipIf(obstacle)(
  "a copied data folder is refused by name, and the agent that had it first goes on",
  async () => {
    const [lan] = await bench.openNetwork([3], { routed: false });
    const cluster = new TestCluster("copied", lan![0]!);
    const { joinToken } = (await cluster.start()).ready;
    const anna = await cluster.startAgent("anna", lan![1]!, joinToken);
    await expect(cluster.startCopy("anna", lan![2]!, joinToken)).rejects.toMatchObject({
      code: "DUPLICATE_IDENTITY",
      message: expect.stringContaining("anna on "),
    });
    const refusedAtMs = Date.now();
    await vi.waitFor(
      async () => {
        const peers = await cluster.peers();
        expect(peers).toMatchObject([{ name: "anna", state: "alive" }]);
        expect(peers[0]!.lastSeenMs).toBeGreaterThan(refusedAtMs + 2_000);
      },
      { timeout: 10_000, interval: 200 },
    );
    // A restart is no copy, however quick it is.
    await anna.kill();
    await cluster.startAgent("anna", lan![1]!, joinToken);
    await cluster.untilAlive(["anna"]);
  },
  testTimeoutMs,
);
