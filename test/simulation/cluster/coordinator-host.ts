import { openCoordinator } from "../../../coordinator/coordinator.ts";
import type { Coordinator } from "../../../coordinator/port.ts";
import { toRingfoldError } from "../../../protocol/errors.ts";
import type { Mutation } from "../mutations.ts";
import type { SimulatedNetwork } from "../world/network.ts";
import type { SimulatedNode } from "../world/node.ts";
import type { Life } from "../world/scheduler.ts";
import type { CoordinatorDisk } from "../world/storage.ts";
import type { World } from "../world/world.ts";
import { simulatedAuthority, simulatedNotary } from "./notary.ts";

/** As `Restart=on-failure` of a systemd unit does. */
const supervisorRestartMs = 3_000;

/** So few that the log of a job goes over into its snapshot several times. */
const decisionsKept = 40;

interface CoordinatorProcess {
  readonly life: Life;
  readonly node: SimulatedNode;
  coordinator: Coordinator | undefined;
}

export interface CoordinatorHostOptions {
  readonly world: World;
  readonly network: SimulatedNetwork;
  readonly disk: CoordinatorDisk;
  readonly peerId: string;
  readonly mutation: Mutation | undefined;
}

/** The machine of the coordinator: the store lasts, the process comes and goes. */
export class CoordinatorHost {
  readonly #options: CoordinatorHostOptions;
  #process: CoordinatorProcess | undefined;

  constructor(options: CoordinatorHostOptions) {
    this.#options = options;
  }

  /** Undefined while it is down or starting. */
  get coordinator(): Coordinator | undefined {
    return this.#process?.coordinator;
  }

  /** Timers that the coordinator has set. */
  get pendingTimers(): number {
    return this.#process?.life.pendingTimers ?? 0;
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  start(): void {
    if (this.#process) return;
    const { world, network, disk, peerId, mutation } = this.#options;
    const life = world.live();
    const node = network.open(peerId, life);
    if (mutation?.wrapRequest) node.request = mutation.wrapRequest(node.request.bind(node), "coordinator");
    const store = disk.open(life);
    const process: CoordinatorProcess = { life, node, coordinator: undefined };
    this.#process = process;
    world.trace("coordinator starts");
    openCoordinator({
      network: node,
      store: mutation?.wrapStore?.(store) ?? store,
      credentials: { authority: simulatedAuthority, swarmKey: "" },
      clock: life,
      log: world.logOf("coordinator"),
      release: "0.0.0",
      notary: simulatedNotary,
      decisionLog: { kept: decisionsKept },
    }).then(
      (coordinator) => {
        process.coordinator = coordinator;
      },
      (cause) => {
        if (toRingfoldError(cause).code !== "STORE_FAILED")
          return world.violate("no part gives up", `the coordinator cannot start: ${String(cause)}`);
        // Its disk fails. It ends; what watches over it starts it again.
        if (this.#process === process) this.kill();
        world.scheduler.after(supervisorRestartMs, () => this.start());
      },
    );
  }

  /** SIGKILL. */
  kill(): void {
    const process = this.#process;
    if (!process) return;
    this.#options.world.trace("coordinator is killed");
    this.#process = undefined;
    process.life.end();
    this.#options.network.crash(process.node);
  }

  /** SIGTERM: it finishes what it has begun, and ends. */
  async close(): Promise<void> {
    const process = this.#process;
    if (!process?.coordinator) return;
    await process.coordinator.close();
    if (this.#process !== process) return;
    this.#process = undefined;
    this.#options.network.crash(process.node);
    process.life.end();
    this.#options.world.trace("coordinator has closed");
  }
}
