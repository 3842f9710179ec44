import { isDeepStrictEqual } from "node:util";
import { RingfoldError } from "../protocol/errors.ts";
import type { RolloutOrder, RolloutView, RolloutWish } from "../protocol/messages/rollout.ts";
import type { Served } from "../protocol/messages/served.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { cutForServing } from "./decide/deployment.ts";
import { deploymentState } from "./decide/placement.ts";
import {
  decideRollout,
  type RolloutDecision,
  type RolloutEvent,
  type RolloutSight,
} from "./decide/rollout.ts";
import {
  comparable,
  evidenceView,
  isRolloutOver,
  type RolloutRecord,
  rolloutTakenOver,
  rolloutView,
} from "./decide/rollout-record.ts";
import { servedBy, type VersionRecord } from "./decide/version.ts";
import type { DeploymentDesk } from "./deployment-desk.ts";
import { ServedEvidence } from "./served-evidence.ts";
import { collections } from "./state.ts";

/** The shell around `decideRollout`: one rollout a name, its evidence, and what follows for the deployments. */
export class RolloutDesk {
  readonly #context: CoordinatorContext;
  readonly #deployments: DeploymentDesk;
  /** The last one of each name. */
  readonly #rollouts: Map<string, RolloutRecord>;
  readonly #evidence = new ServedEvidence();
  /** What those under way wait for, by name. */
  readonly #waits = new Map<string, string>();

  constructor(context: CoordinatorContext, deployments: DeploymentDesk) {
    this.#context = context;
    this.#deployments = deployments;
    const { startedAtMs } = context.time;
    const stored = collections.rollouts.readAll(context.store);
    this.#rollouts = new Map(
      stored.map((one) => [one.name, isRolloutOver(one) ? one : rolloutTakenOver(one, startedAtMs)]),
    );
    for (const rollout of this.#underWay()) this.#evidence.begin(sidesOf(rollout));
  }

  views(): RolloutView[] {
    return [...this.#rollouts.values()].map((rollout) => this.#view(rollout));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(name: string): RolloutView {
    return this.#view(this.#get(name));
  }

  /** @throws RingfoldError NOT_FOUND */
  revision(name: string): string {
    this.#get(name);
    return collections.rollouts.revision(this.#context.store, name);
  }

  /**
   * Places a version beside the live one, to take over from it in steps.
   * @throws RingfoldError NOT_FOUND | REQUEST_INVALID | INSUFFICIENT_WORKERS | CONFLICT
   */
  async start(request: RolloutWish): Promise<RolloutView> {
    const { name, steps } = request;
    const { versions, store, clock } = this.#context;
    const version = versions.get(name, request.version);
    const live = this.#liveFor(version);
    const { shards = live.shards.length, replicas = live.replicaCount } = request;
    const ranges = cutForServing(version, shards);
    const deployment = this.#deployments.nextNumber();
    const number = (collections.counters.read(store, "rollout") ?? 0) + 1;
    const candidate = { deployment, version: version.version, replicas, ranges };
    const event = { kind: "requested", number, request, candidate, live } as const;
    const earlier = this.#rollouts.get(name);
    const served = servedBy(version, deployment, clock.nowMs());
    await this.#carryOut(
      decideRollout(earlier, event, this.#sight(earlier)),
      {
        who: { kind: "operator" },
        event: { kind: "rollout-requested", name, version: version.version, steps: [...steps] },
      },
      [
        collections.counters.put("rollout", number),
        collections.counters.put("deployment", deployment),
        versions.write(served),
      ],
    );
    versions.commit(served);
    return this.view(name);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it does not fit */
  async order(
    name: string,
    order: RolloutOrder,
    { full = false, reason = "" }: { readonly full?: boolean; readonly reason?: string },
  ): Promise<RolloutView> {
    const event = { kind: "rollout-ordered", name, order, full, detail: reason } as const;
    const told = { who: { kind: "operator" }, event } as const;
    await this.#decide(this.#get(name), { kind: "ordered", order, full, detail: reason }, told);
    return this.view(name);
  }

  /** What a gateway has answered, in a beat that is news. */
  async hear(peerId: string, incarnation: string, served: readonly Served[]): Promise<void> {
    if (served.length === 0) return;
    this.#evidence.hear(peerId, incarnation, served);
    await this.lookAround();
  }

  forget(peerId: string): void {
    this.#evidence.forget(peerId);
  }

  async lookAround(): Promise<void> {
    for (const rollout of [...this.#underWay()]) {
      const look = () =>
        this.#decide(
          rollout,
          { kind: "looked-at" },
          {
            who: { kind: "coordinator" },
            event: {
              kind: "rollout-looked-at",
              name: rollout.name,
              evidence: evidenceView(this.#counted(rollout)),
            },
          },
        );
      await this.#context.apart.run(`rollout of ${rollout.name}`, look);
    }
  }

  async #decide(rollout: RolloutRecord, event: RolloutEvent, told: Pick<Decision, "who" | "event">) {
    await this.#carryOut(decideRollout(rollout, event, this.#sight(rollout)), told, []);
  }

  /** Durable with all that follows from it, then visible. */
  async #carryOut(
    { rollout, action, reason }: RolloutDecision,
    told: Pick<Decision, "who" | "event">,
    more: readonly StoreWrite[],
  ): Promise<void> {
    const { decisions, versions, clock, changed } = this.#context;
    const { name } = rollout;
    const before = this.#rollouts.get(name);
    if (rollout === before) return this.#waitsFor(rollout, reason);
    const decision = { ...told, subject: `rollout ${name}@${rollout.version}`, reason, isNews: true };
    const alias =
      rollout.state === "promoted" && rollout.alias
        ? versions.aliases.moveWith(name, rollout.alias, rollout.version, clock.nowMs())
        : undefined;
    const writes = [collections.rollouts.put(name, rollout), ...(alias ? [alias.write] : []), ...more];
    if (action) await this.#deployments.changeCandidate(action, decision, writes);
    else await decisions.commit(decision, writes);
    this.#rollouts.set(name, rollout);
    alias?.moved();
    this.#waits.delete(name);
    if (isRolloutOver(rollout)) this.#evidence.end(sidesOf(rollout));
    else if (before?.number !== rollout.number || before.steppedAtMs !== rollout.steppedAtMs) {
      // What failed while replicas lacked is no word about the version.
      const strict = before !== undefined && before.step === rollout.step && before.lackingSinceMs !== null;
      this.#evidence.begin(sidesOf(rollout), { strict });
    }
    changed();
  }

  #waitsFor(rollout: RolloutRecord, reason: string): void {
    if (isRolloutOver(rollout) || this.#waits.get(rollout.name) === reason) return;
    this.#waits.set(rollout.name, reason);
    this.#context.changed();
  }

  /** What is live, and may be taken over from. @throws RingfoldError NOT_FOUND | REQUEST_INVALID | CONFLICT */
  #liveFor({ version, manifest }: VersionRecord) {
    const { name, model } = manifest;
    const { live, pending } = this.#deployments.standing(name);
    if (!live) {
      const remedy = `Serve it with \`ringfold deploy ${name}@${version}\`.`;
      throw new RingfoldError("NOT_FOUND", `nothing is served as ${name} that it could take over from`, {
        remedy,
      });
    }
    if (pending)
      throw new RingfoldError("CONFLICT", `${name}@${pending.version} is about to take over`, { name });
    if (live.version === version)
      throw new RingfoldError("CONFLICT", `${name}@${version} is live already`, { name, version });
    const { inputShape } = this.#context.versions.get(name, live.version).manifest.model;
    if (isDeepStrictEqual(inputShape, model.inputShape)) return live;
    const shapes = `[${model.inputShape.join()}], ${name}@${live.version} [${inputShape.join()}]`;
    throw new RingfoldError(
      "REQUEST_INVALID",
      `requests cannot go to both: ${name}@${version} takes ${shapes}`,
    );
  }

  #sight(rollout: RolloutRecord | undefined): RolloutSight {
    const { time, clock } = this.#context;
    const candidate = rollout && this.#deployments.find(rollout.deployment);
    return {
      ...{ nowMs: time.nowMs(), shownMs: clock.nowMs() },
      candidate: candidate ? readiness(candidate) : null,
      isLive: rollout !== undefined && this.#deployments.find(rollout.fromDeployment)?.live === true,
      evidence: this.#counted(rollout),
    };
  }

  #counted(rollout: RolloutRecord | undefined) {
    if (!rollout) return { candidate: this.#evidence.of(0), live: null };
    const [candidate, live] = [
      this.#evidence.of(rollout.deployment),
      this.#evidence.of(rollout.fromDeployment),
    ];
    return comparable(rollout, { candidate, live });
  }

  #view(rollout: RolloutRecord): RolloutView {
    if (isRolloutOver(rollout)) return rolloutView(rollout);
    const reason = this.#waits.get(rollout.name) ?? rollout.reason;
    return rolloutView(rollout, { reason, evidence: this.#counted(rollout) });
  }

  *#underWay(): Iterable<RolloutRecord> {
    for (const rollout of this.#rollouts.values()) if (!isRolloutOver(rollout)) yield rollout;
  }

  #get(name: string): RolloutRecord {
    const rollout = this.#rollouts.get(name);
    if (rollout) return rollout;
    throw new RingfoldError("NOT_FOUND", `${name} has not been rolled out`, {
      ...{ name, remedy: "List the rollouts with `ringfold rollout list`." },
    });
  }
}

const sidesOf = ({ deployment, fromDeployment }: RolloutRecord): number[] => [deployment, fromDeployment];

function readiness(candidate: Parameters<typeof deploymentState>[0]) {
  const { state, reason } = deploymentState(candidate);
  return { isWhole: state === "ready", canAnswer: state === "ready" || state === "degraded", reason };
}
