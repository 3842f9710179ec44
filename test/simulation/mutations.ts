import { Membership } from "../../agent/membership/membership.ts";
import { TermFence } from "../../agent/membership/term-fence.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { Checkpointer } from "../../agent/training/checkpoints/checkpointer.ts";
import { CatchUp } from "../../agent/training/healing/catch-up.ts";
import { JobRunner } from "../../agent/training/job-runner.ts";
import { Sampler } from "../../agent/training/sampler.ts";
import { Trainer } from "../../agent/training/trainer.ts";
import { TrainerChild } from "../../agent/training/trainer-child.ts";
import { trainingPoint } from "../../agent/training/training-state.ts";
import { PeerTable } from "../../coordinator/peers.ts";
import { VersionRegistry } from "../../coordinator/version-registry.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { Store } from "../../protocol/ports.ts";
import type { ScheduledFault } from "./faults.ts";
import type { SimulatedNode } from "./world/node.ts";
import type { Randomness } from "./world/randomness.ts";
import type { Weather } from "./world/wire.ts";

/** A bug, planted around or into the real code. Some property must fail under it, or nobody would notice the real one. */
export interface Mutation {
  readonly name: string;
  /** Properties that it breaks in any case, where what matters is that the cluster gets over it. */
  readonly tolerates?: RegExp;
  /** The properties that it breaks. */
  readonly shows: RegExp;
  /** A schedule in which it can show, where it rarely would. */
  readonly faults?: (random: Randomness, machineCount: number) => readonly ScheduledFault[];
  /** Replaces methods of real classes; returns the way back. */
  readonly plant?: () => () => void;
  readonly wrapStore?: (store: Store) => Store;
  /** Around the requests of the coordinator or of an agent. */
  readonly wrapRequest?: (
    request: SimulatedNode["request"],
    from: "coordinator" | "agent",
  ) => SimulatedNode["request"];
  /** Between a trainer and its agent. */
  readonly changeReport?: (report: JobReport) => JobReport;
  readonly changePlan?: (plan: GenerationPlan, trainer: Pick<Trainer, "state">) => GenerationPlan;
}

export const badWeather: Weather = {
  latencyMs: { min: 0.1, max: 20 },
  requestLoss: 0.5,
  gossipLoss: 0,
  duplication: 0,
};

/** Replaces one method; `change` gets the original. */
export function replacing<Class extends object, Name extends keyof Class>(
  prototype: Class,
  name: Name,
  change: (original: Class[Name]) => Class[Name],
): () => () => void {
  return () => {
    const original = prototype[name];
    prototype[name] = change(original);
    return () => {
      prototype[name] = original;
    };
  };
}

/** Believes that a request has arrived when it has not. */
export const believes =
  (protocolPart: string, who: "coordinator" | "agent"): NonNullable<Mutation["wrapRequest"]> =>
  (request, from) =>
    from !== who
      ? request
      : (to, conversation, body, options) =>
          request(to, conversation, body, options).catch((error) => {
            if (!conversation.protocol.includes(protocolPart)) throw error;
            return { ok: true } as never;
          });

/** One rank of three or more finds another number in its memory than it has put there; once. */
export const flippedBit: Mutation = {
  name: "a bit flips in the parameters of one rank",
  shows: /^replicas are equal/,
  faults: () => [],
  plant: () => {
    let flipped = false;
    return replacing(
      Trainer.prototype,
      "run",
      (original) =>
        function (this: Trainer, ring, signal, entry) {
          if (!flipped && !entry && ring.worldSize > 2 && ring.rank === 1) {
            flipped = true;
            this.state.parameters[3]! += 2 ** -10;
          }
          return original.call(this, ring, signal, entry);
        },
    )();
  },
};

/** Whatever generation it is in. */
export const pausesAtReturn: Mutation = {
  name: "a trainer stops at a step boundary when the coordinator is back",
  shows: /^a fault of the coordinator alone forms no generation/,
  plant: replacing(
    TrainerChild.prototype,
    "announce",
    (original) =>
      function (this: TrainerChild) {
        original.call(this);
        for (let generation = 1; generation < 10; generation++) this.quiesce(generation, false);
      },
  ),
};

/** As if each were judged by its own silence alone. */
export const believesSilence: Mutation = {
  name: "a coordinator takes all for dead that it does not hear",
  shows: /^a fault of the coordinator alone forms no generation/,
  plant: replacing(
    PeerTable.prototype,
    "state",
    (original) =>
      function (this: PeerTable, peer) {
        const isLong = this.silentMs(peer) > 9_000 || !peer.connected;
        return isLong && !peer.left ? "dead" : original.call(this, peer);
      },
  ),
};

export const mutations: readonly Mutation[] = [
  flippedBit,
  {
    name: "a step is applied although its all-reduce broke",
    shows: /^(replicas are equal|a step needs every rank|progress)/,
    plant: replacing(
      Ring.prototype,
      "allReduce",
      (original) =>
        async function (this: Ring, ...parameters) {
          await original.apply(this, parameters).catch(() => undefined);
        },
    ),
  },
  {
    name: "a rank that is behind begins without healing",
    shows: /^all ranks start alike/,
    changePlan: (plan, trainer) => ({
      ...plan,
      start: trainingPoint(trainer.state),
      ranks: plan.ranks.map((rank) => ({ ...rank, heals: false })),
    }),
  },
  {
    name: "a rank that heals forgets the first step that it has missed",
    // Where it heals in the last steps, the coordinator sees it before the checker does.
    shows: /^(replicas are equal|progress: the job has failed: HASH_DIVERGED)/,
    plant: replacing(
      CatchUp.prototype,
      "take",
      (original) =>
        function (this: CatchUp) {
          const taken = original.call(this);
          return taken && { ...taken, rounds: taken.rounds.slice(1) };
        },
    ),
  },
  {
    name: "a rank that has healed takes its share before the others know",
    shows: /^(every example once an epoch|replicas are equal|every state has an origin)/,
    plant: replacing(
      Trainer.prototype,
      "run",
      (original) =>
        function (this: Trainer, ring, signal, entry) {
          if (!entry?.catchUp) return original.call(this, ring, signal, entry);
          const place = { rank: ring.rank, worldSize: ring.worldSize };
          const { catchUp, ...rest } = entry;
          const eager = {
            ...rest,
            place,
            get catchUp() {
              return catchUp.isCurrent ? undefined : catchUp;
            },
          };
          return original.call(this, ring, signal, eager as typeof entry);
        },
    ),
  },
  {
    name: "healing brings the parameters and forgets the optimizer",
    shows: /^replicas are equal/,
    plant: replacing(
      Trainer.prototype,
      "run",
      (original) =>
        function (this: Trainer, ring, signal, entry) {
          if (!entry) return original.call(this, ring, signal);
          const restore: typeof entry.restore = async (state) => {
            await entry.restore(state);
            for (const slot of Object.values(this.state.slots)) slot.fill(0);
          };
          return original.call(this, ring, signal, { ...entry, restore });
        },
    ),
  },
  {
    name: "a survivor reports the step before its last one",
    shows: /^(progress|no finished step is lost)/,
    changeReport: (report) =>
      report.kind === "ended" || report.kind === "ready"
        ? { ...report, point: { ...report.point, step: Math.max(0, report.point.step - 1) } }
        : report,
  },
  {
    name: "a checkpoint is found again one step too far",
    shows: /^(every state has an origin|every example once|replicas are equal)/,
    faults: (random, machineCount) =>
      Array.from({ length: machineCount }, (_, machine) => ({
        atMs: random.real(1_000, 1_500),
        fault: { kind: "kill-agent", machine, withTrainers: true, forMs: 50 },
      })),
    plant: replacing(
      Checkpointer.prototype,
      "restore",
      (original) =>
        async function (this: Checkpointer, trainer) {
          const restored = await original.call(this, trainer);
          if (restored) (trainer as Trainer).state.step++;
          return restored;
        },
    ),
  },
  {
    name: "examples that do not divide evenly are dropped",
    shows: /^every example once an epoch/,
    plant: replacing(
      Sampler.prototype,
      "slice",
      (original) =>
        function (this: Sampler, at) {
          const slice = original.call(this, at);
          return slice.subarray(0, Math.floor(this.batchSize / at.worldSize));
        },
    ),
  },
  {
    name: "writes are acknowledged before they are durable",
    shows: /^(durable before visible|plans are durable)/,
    wrapStore: (store) => ({
      ...store,
      write: async (writes) => {
        store.write(writes).catch(() => undefined);
      },
    }),
  },
  {
    name: "state changes without a word in the log",
    shows: /^the log tells the state/,
    wrapStore: (store) => ({
      ...store,
      write: (writes) => store.write(writes.filter(({ key }) => !key.startsWith("decision/"))),
    }),
  },
  {
    name: "a version is visible before it is durable",
    shows: /^durable before visible/,
    plant: replacing(
      VersionRegistry.prototype,
      "prepare",
      (original) =>
        function (this: VersionRegistry, manifest) {
          const prepared = original.call(this, manifest);
          this.commit(prepared.record);
          return prepared;
        },
    ),
  },
  {
    name: "commands of an older term are obeyed",
    shows: /^terms fence/,
    faults: (random) => {
      const atMs = random.real(200, 3_000);
      return [
        { atMs, fault: { kind: "isolate", machine: 0, planes: ["control"], forMs: random.real(500, 3_000) } },
        { atMs: atMs + 20, fault: { kind: "kill-trainer", machine: 1 } },
        {
          atMs: atMs + random.real(30, 400),
          fault: { kind: "kill-coordinator", point: "at once", forMs: 10 },
        },
      ];
    },
    plant: replacing(TermFence.prototype, "check", () => () => {}),
  },
  {
    name: "reports that did not reach the coordinator are forgotten",
    shows: /^progress/,
    wrapRequest: believes("/report/", "agent"),
  },
  {
    name: "commands that did not reach an agent are forgotten",
    shows: /^progress/,
    faults: (random) => [
      { atMs: 0, fault: { kind: "weather", weather: badWeather, forMs: random.real(500, 4_000) } },
    ],
    wrapRequest: believes("/prepare/", "coordinator"),
  },
  {
    name: "idle trainers keep silent when the coordinator is back",
    shows: /^progress/,
    faults: () => [
      { atMs: 0, fault: { kind: "kill-coordinator", point: "after the end of a job", forMs: 100 } },
    ],
    plant: replacing(JobRunner.prototype, "coordinatorReturned", () => () => {}),
  },
  {
    name: "an agent that lost its coordinator does not look for it",
    shows: /^progress/,
    plant: replacing(Membership.prototype, "join", (original) => {
      const joined = new WeakSet<Membership>();
      return async function (this: Membership, signal) {
        if (joined.has(this)) return;
        joined.add(this);
        await original.call(this, signal);
      };
    }),
  },
];
