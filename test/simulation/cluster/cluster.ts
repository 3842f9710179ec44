import { heldCheckpoints } from "../../../agent/training/checkpoints/held-checkpoints.ts";
import { Witness } from "../checks/witness.ts";
import type { Fault, ScheduledFault } from "../faults.ts";
import { memoryPeerId } from "../memory-network.ts";
import type { Mutation } from "../mutations.ts";
import { SimulatedDataPlanes } from "../world/data-planes.ts";
import { SimulatedNetwork } from "../world/network.ts";
import { ArtefactDisk, CoordinatorDisk } from "../world/storage.ts";
import { calm, Wire } from "../world/wire.ts";
import type { World } from "../world/world.ts";
import { CoordinatorHost } from "./coordinator-host.ts";
import { Machine } from "./machine.ts";
import type { Surroundings } from "./surroundings.ts";

const coordinatorPeerId = memoryPeerId(99);

/** A coordinator, machines and what lies between them; and the hand that breaks and mends all of it. */
export class Cluster {
  readonly world: World;
  readonly witness: Witness;
  readonly disk: CoordinatorDisk;
  readonly host: CoordinatorHost;
  readonly machines: readonly Machine[];
  readonly #wire: Wire;
  readonly #network: SimulatedNetwork;
  /** One more than start at the beginning: the one that joins later. */
  readonly #startingCount: number;
  readonly #lost = new Set<number>();
  #isCalm = false;

  constructor(
    world: World,
    options: {
      readonly machineCount: number;
      readonly mutation: Mutation | undefined;
      readonly computeMs?: Surroundings["computeMs"];
    },
  ) {
    const { machineCount, mutation, computeMs = { min: 1, max: 25 } } = options;
    this.world = world;
    this.witness = new Witness(world);
    this.disk = new CoordinatorDisk(world);
    this.disk.onApplied = (writes) => this.witness.applied(writes);
    this.#wire = new Wire(world);
    this.#network = new SimulatedNetwork(world, this.#wire);
    this.#network.onObeyed = (node, protocol, request) => this.witness.obeyed(node, protocol, request);
    this.#startingCount = machineCount;
    this.host = new CoordinatorHost({
      ...{ world, network: this.#network, disk: this.disk, peerId: coordinatorPeerId },
      mutation,
    });
    const planes = new SimulatedDataPlanes(world, this.#wire);
    this.machines = Array.from(
      { length: machineCount + 1 },
      (_, i) =>
        new Machine({
          ...{ world, planes, coordinatorPeerId, network: this.#network, witness: this.witness, computeMs },
          disk: new ArtefactDisk(world),
          borrow: (digest) => this.#borrow(memoryPeerId(i + 11), digest),
          peerId: memoryPeerId(i + 11),
          name: `machine-${i}`,
          mutation,
        }),
    );
    this.witness.heldBy = (peerId, jobId) =>
      this.machines
        .filter((machine) => machine.peerId === peerId)
        .flatMap(({ surroundings }) => heldCheckpoints(surroundings.disk, jobId));
    this.witness.isReachable = (peerId, sinceMs) => {
      const machine = this.machines.find((candidate) => candidate.peerId === peerId);
      const lastCutMs = Math.max(this.#wire.lastCutMs(peerId), this.#wire.lastCutMs(coordinatorPeerId));
      return !!machine?.isUp && !machine.isLeaving && lastCutMs < sinceMs;
    };
  }

  start(): void {
    const { scheduler, random } = this.world;
    this.host.start();
    for (const machine of this.machines.slice(0, this.#startingCount))
      scheduler.after(random.skewed(0, 2_000), () => this.#startMachine(this.machines.indexOf(machine)));
  }

  /** Plans the faults and the calm after the last; returns when that is, in virtual milliseconds from now. */
  schedule(faults: readonly ScheduledFault[]): number {
    const { scheduler } = this.world;
    for (const { atMs, fault } of faults)
      scheduler.after(atMs, () => {
        if (this.#isCalm) return;
        this.world.trace(`FAULT ${JSON.stringify(fault)}`);
        this.#inflict(fault);
      });
    const calmAtMs = Math.max(
      0,
      ...faults.map(({ atMs, fault }) => atMs + ("forMs" in fault ? fault.forMs : 0)),
    );
    scheduler.after(calmAtMs + 1, () => this.calmDown());
    return calmAtMs;
  }

  /** No more faults: what is down starts, what is cut is mended. */
  calmDown(): void {
    if (this.#isCalm) return;
    this.world.trace("calm");
    this.#isCalm = true;
    this.#wire.weather = calm;
    for (const { peerId } of this.machines) this.#wire.heal(peerId);
    this.#wire.heal(coordinatorPeerId);
    this.disk.failures = 0;
    this.#keepUp();
  }

  /** In the calm everything runs: a machine that was just leaving comes back. */
  #keepUp(): void {
    for (const index of Array(this.#startingCount).keys()) this.#startMachine(index);
    this.host.start();
    this.world.scheduler.after(1_000, () => this.#keepUp());
  }

  #borrow(borrower: string, digest: string): Uint8Array | undefined {
    const lender = this.machines.find(
      ({ isUp, peerId, surroundings }) =>
        isUp && !this.#wire.isCut("control", peerId, borrower) && surroundings.disk.has(digest),
    );
    return lender?.surroundings.disk.copyOf(digest);
  }

  #startMachine(index: number): void {
    if (!this.#lost.has(index)) this.machines[index]!.start();
  }

  #inflict(fault: Fault): void {
    const { scheduler, random } = this.world;
    const later = (undo: () => void) => scheduler.after("forMs" in fault ? fault.forMs : 0, undo);
    switch (fault.kind) {
      case "kill-agent":
        this.machines[fault.machine]!.kill({ withTrainers: fault.withTrainers });
        return void later(() => this.#startMachine(fault.machine));
      case "kill-trainer": {
        const trainers = this.machines[fault.machine]!.trainers();
        return void (trainers.length > 0 && random.pick(trainers).kill());
      }
      case "stall-trainer":
        for (const trainer of this.machines[fault.machine]!.trainers()) trainer.stall(fault.forMs);
        return;
      case "leave":
        this.machines[fault.machine]!.leave();
        return void later(() => this.#startMachine(fault.machine));
      case "lose-machine":
        this.#lost.add(fault.machine);
        return this.machines[fault.machine]!.kill({ withTrainers: true });
      case "disk-error":
        this.disk.failures = fault.writes;
        return;
      case "join":
        return this.#startMachine(fault.machine);
      case "kill-coordinator": {
        const kill = () => {
          this.host.kill();
          later(() => this.host.start());
        };
        return fault.point === "at once" ? kill() : this.disk.crashAt(fault.point, kill);
      }
      case "close-coordinator":
        return void this.host.close().then(() => later(() => this.host.start()));
      case "isolate": {
        const peerId = this.machines[fault.machine]?.peerId ?? coordinatorPeerId;
        this.#wire.isolate(peerId, fault.planes);
        if (fault.planes.includes("control")) this.#network.giveUpLater(peerId);
        return void later(() => this.#wire.heal(peerId));
      }
      case "weather":
        this.#wire.weather = fault.weather;
        return void later(() => {
          this.#wire.weather = calm;
        });
    }
  }
}
