import { serveArtefacts } from "../../../agent/artefact/transfer.ts";
import type { AgentCredentials } from "../../../agent/membership/credentials-file.ts";
import { Membership } from "../../../agent/membership/membership.ts";
import { TermFence } from "../../../agent/membership/term-fence.ts";
import { JobRunner } from "../../../agent/training/job-runner.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { protocolRange } from "../../../protocol/messages/membership.ts";
import { placeShards } from "../../../protocol/messages/serving.ts";
import type { SimulatedNode } from "../world/node.ts";
import type { Life } from "../world/scheduler.ts";
import { simulatedClaims, simulatedSigner, simulatedToken } from "./notary.ts";
import type { Surroundings } from "./surroundings.ts";
import { asChild, TrainerProgram } from "./trainer-program.ts";

interface AgentProcess {
  readonly life: Life;
  readonly node: SimulatedNode;
  readonly runner: JobRunner;
  readonly membership: Membership;
  readonly trainers: TrainerProgram[];
  readonly end: AbortController;
  leaving: boolean;
}

/** As `Restart=on-failure` of a systemd unit does. */
const supervisorRestartMs = 3_000;

/** A machine of the cluster: its disk lasts; its agent, assembled as agent/agent.ts does, comes and goes. */
export class Machine {
  readonly surroundings: Surroundings;
  #process: AgentProcess | undefined;
  #membership: string | null = null;
  #starts = 0;
  #pids = 0;

  constructor(surroundings: Surroundings) {
    this.surroundings = surroundings;
  }

  get name(): string {
    return this.surroundings.name;
  }

  get peerId(): string {
    return this.surroundings.peerId;
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  get isLeaving(): boolean {
    return this.#process?.leaving ?? false;
  }

  /** Trainer processes that run, those of a dead agent not among them. */
  trainers(): TrainerProgram[] {
    return this.#process?.trainers.filter(({ life }) => life.alive) ?? [];
  }

  start(): void {
    if (this.#process) return;
    const { world, network, peerId } = this.surroundings;
    const life = world.live();
    const node = network.open(peerId, life);
    const { mutation } = this.surroundings;
    if (mutation?.wrapRequest) node.request = mutation.wrapRequest(node.request.bind(node), "agent");
    const trainers: TrainerProgram[] = [];
    const log = world.logOf(this.name);
    const fence = new TermFence(this.surroundings.coordinatorPeerId);
    const incarnation = `${this.name}/${this.#starts++}`;
    const runner = new JobRunner({
      ...{ network: node, fence, log, clock: life, incarnation },
      coordinatorPeerId: this.surroundings.coordinatorPeerId,
      store: this.surroundings.disk.open(life),
      setup: {
        peerId,
        certificate: { cert: "", key: "" },
        listenHost: peerId,
        artefactPath: peerId,
        logLevel: "info",
        engine: "cpu",
      },
      host: () => peerId,
      fetchPart: async (_manifest, digest) => {
        const { disk, borrow } = this.surroundings;
        await life.pause(world.random.skewed(0.2, 20));
        const bytes = borrow(digest);
        if (!bytes) throw new RingfoldError("ARTEFACT_MISSING", `nobody in reach has ${digest}`, { digest });
        await disk.open(life).put(bytes);
      },
      fetchArtefact: async () => {
        throw new RingfoldError("ARTEFACT_MISSING", "no job of the simulation begins with a version");
      },
      signer: simulatedSigner(peerId),
      fork: () => {
        const program = new TrainerProgram(this.surroundings, life, 100 * this.#starts + this.#pids++);
        trainers.push(program);
        return asChild(program);
      },
    });
    serveArtefacts(node, this.surroundings.disk.open(life));
    node.handle(placeShards, async ({ term }, { from }) => {
      fence.check(term, from);
      return { ok: true };
    });
    const membership = this.#membershipOf({ life, node, runner, incarnation });
    this.#process = { life, node, runner, membership, trainers, end: new AbortController(), leaving: false };
    world.trace(`${this.name} starts`);
    membership.join(this.#process.end.signal).catch((cause) => {
      const { code, message } = toRingfoldError(cause);
      if (this.#process?.life !== life || this.#process.leaving) return;
      if (code !== "DUPLICATE_IDENTITY")
        return world.violate("no part gives up", `${this.name} cannot join: ${code} ${message}`);
      // Its last life is not known to be dead. The agent ends; what watches over it starts it again.
      world.trace(`${this.name} is refused: ${code}`);
      this.kill({ withTrainers: true });
      world.scheduler.after(supervisorRestartMs, () => this.start());
    });
  }

  /** Timers that its agent has set. */
  get pendingTimers(): number {
    return this.#process?.life.pendingTimers ?? 0;
  }

  /** SIGKILL. A trainer notices and ends by itself, unless it is killed along. */
  kill(options: { readonly withTrainers: boolean }): void {
    const process = this.#process;
    if (!process) return;
    this.#process = undefined;
    process.life.end();
    this.surroundings.network.crash(process.node);
    for (const trainer of process.trainers) {
      if (options.withTrainers) trainer.kill();
      else this.surroundings.world.scheduler.after(1, () => trainer.disconnect());
    }
  }

  /** As the command line does on Ctrl-C: says goodbye, waits for at most ten seconds, ends. */
  leave(): void {
    const process = this.#process;
    if (!process || process.leaving) return;
    process.leaving = true;
    const abort = new AbortController();
    const { world, network } = this.surroundings;
    process.life.after(limits.requestTimeoutMs, () => abort.abort());
    const goodbye = async () => {
      await process.membership.leave("the agent was asked to end", abort.signal);
      process.membership.close();
      process.end.abort();
      await process.runner.close();
      network.crash(process.node);
      process.life.end();
      if (this.#process === process) this.#process = undefined;
      world.trace(`${this.name} has left`);
    };
    goodbye().catch((cause) => world.violate("no part gives up", `${this.name} leaving: ${String(cause)}`));
  }

  #membershipOf({
    life,
    node,
    runner,
    incarnation,
  }: Pick<AgentProcess, "life" | "node" | "runner"> & { readonly incarnation: string }): Membership {
    const { world, disk, peerId, coordinatorPeerId, witness } = this.surroundings;
    const credentials: AgentCredentials = {
      token: simulatedToken,
      claims: simulatedClaims(coordinatorPeerId),
      membership: this.#membership,
    };
    witness.agentStarted(peerId);
    return new Membership({
      ...{ network: node, credentials, clock: life, log: world.logOf(this.name) },
      hello: () => ({
        ...{ peerId, name: this.name, incarnation, release: "0.0.0" },
        protocolMin: protocolRange.min,
        protocolMax: protocolRange.max,
        addresses: [...node.addresses()],
        gatewayUrl: null,
        capabilities: {
          ...{ hostname: this.name, platform: "simulated", cpuModel: "simulated", cpuCount: 1 },
          ...{ memoryBytes: 0, gpu: null, engine: "cpu", engineReason: "simulated" },
          ...{ gflops: 1, scripts: false, usableMemoryBytes: null, gpus: [], engines: [], labels: {} },
        },
      }),
      holdings: () => disk.open(life).holdings(),
      links: () => [],
      served: () => [],
      measureLoad: () => ({ cpu: 0, residentBytes: 0 }),
      onReached: async () => {},
      onJoined: async (response) => {
        await life.pause(world.random.skewed(0.1, 3));
        this.#membership = response.membership;
        runner.coordinatorReturned();
      },
    });
  }
}
