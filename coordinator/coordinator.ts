import { toRingfoldError } from "../protocol/errors.ts";
import { Holders } from "../protocol/holdings.ts";
import { limits } from "../protocol/limits.ts";
import { eventsShown } from "../protocol/messages/cluster-change.ts";
import { askRegistered } from "../protocol/messages/dataset.ts";
import { reportJob } from "../protocol/messages/job-report.ts";
import { join, leave, type Presence, presenceTopic } from "../protocol/messages/membership.ts";
import { reportShard } from "../protocol/messages/serving.ts";
import type { Clock, ClusterNetwork, Log, Store } from "../protocol/ports.ts";
import { Apart } from "./apart.ts";
import { CheckpointGarbage } from "./checkpoint-garbage.ts";
import type { CoordinatorContext } from "./context.ts";
import { type ClusterCredentials, type Notary, signatureNotary } from "./credentials.ts";
import { DatasetDesk } from "./dataset-desk.ts";
import { DecisionLog } from "./decision-log.ts";
import { DeploymentDesk } from "./deployment-desk.ts";
import { DocumentDesk } from "./document-desk.ts";
import { documentReferences } from "./document-users.ts";
import { JobDesk } from "./job-desk.ts";
import { KeyedRequests } from "./keyed-requests.ts";
import { LogDesk } from "./log-desk.ts";
import { MembershipDesk } from "./membership-desk.ts";
import { createOperations } from "./operations.ts";
import { coalesced, repeat, throttled } from "./pacing.ts";
import { PeerTable } from "./peers.ts";
import type { Coordinator } from "./port.ts";
import { QuotaDesk } from "./quota-desk.ts";
import { Registrar } from "./registrar.ts";
import { ReplicationDesk } from "./replication-desk.ts";
import { ReportFilter } from "./report-filter.ts";
import { RetentionDesk } from "./retention-desk.ts";
import { RolloutDesk } from "./rollout-desk.ts";
import { SerialQueue } from "./serial-queue.ts";
import { collections } from "./state.ts";
import { SweepDesk } from "./sweep-desk.ts";
import { TermTime } from "./term-time.ts";
import { TokenDesk } from "./token-desk.ts";
import { VersionDesk } from "./version-desk.ts";
import { VersionRegistry } from "./version-registry.ts";
import { WriteCheck } from "./write-check.ts";

export interface CoordinatorModules {
  readonly network: ClusterNetwork;
  readonly store: Store;
  readonly credentials: ClusterCredentials;
  readonly clock: Clock;
  readonly log: Log;
  readonly release: string;
  /** Multiaddrs, without a peer id, of coordinators that may lead after this one. */
  readonly otherAddresses?: () => Promise<string[]>;
  /** Entries of the log of decisions that stay as they were written; `limits.decisionsKept` unless told. */
  readonly decisionLog?: { readonly kept: number };
  /** Agents that hold each data set and version; `limits.replicas` unless told. */
  readonly replicaCount?: number;
  /** The simulator has its own. */
  readonly notary?: Notary;
}

/** How often jobs and deployments look at the clock; everything urgent comes as an event. */
const lookAroundIntervalMs = 500;
/** Changes are told to people at most four times a second. */
const changeIntervalMs = 250;

/**
 * Assembles a coordinator: takes the next term, listens, and from then on turns one event at a time into a decision that
 * is durable before it is acted on. It is on no step's and no prediction's path.
 */
export async function openCoordinator(modules: CoordinatorModules): Promise<Coordinator> {
  const { network, store, credentials, clock, log, release } = modules;
  const term = (collections.counters.read(store, "term") ?? 0) + 1;
  const time = new TermTime(clock);
  const closed = new AbortController();
  const listeners = new Set<() => void>();
  const announceChange = throttled(clock, changeIntervalMs, () => {
    for (const listener of listeners) listener();
  });
  const notary = modules.notary ?? signatureNotary;
  const replicaCount = modules.replicaCount ?? limits.replicas;
  const versionRegistry = new VersionRegistry(store, replicaCount);
  const registrar = new Registrar({
    ...{ versions: versionRegistry, clock, cluster: credentials.authority.clusterName },
    authority: notary.authoritySigner(credentials.authority),
  });
  const context: CoordinatorContext = {
    ...{ network, store, clock, time, log, term, release, registrar, replicaCount },
    peers: new PeerTable(clock),
    holders: new Holders({ network, clock, log, changed: announceChange.call }),
    versions: versionRegistry,
    decisions: new DecisionLog({ store, clock, log, term, ...modules.decisionLog }),
    isSignedBy: notary.isSignedBy,
    apart: new Apart(log),
    changed: announceChange.call,
  };
  const membership = new MembershipDesk(context, credentials, notary);
  const quotas = new QuotaDesk(context);
  const jobs = new JobDesk(context, () => quotas.all());
  const sweeps = new SweepDesk(context, jobs);
  const deployments = new DeploymentDesk(context);
  const rollouts = new RolloutDesk(context, deployments);
  const datasets = new DatasetDesk(context);
  const documents = new DocumentDesk(context, () =>
    documentReferences({ datasets, jobs, sweeps, versions: versionRegistry }),
  );
  const versions = new VersionDesk(context, {
    references: (name) =>
      new Map([
        ...deployments.served(name).map((version) => [version, "it is served"] as const),
        ...sweeps.usedVersions(name),
        ...jobs.beginningWith(name),
      ]),
    job: (jobId) => jobs.find(jobId)?.spec,
  });
  const retention = new RetentionDesk(context, versions);
  const garbage = new CheckpointGarbage(jobs);
  const replication = new ReplicationDesk(context, () => ({
    datasets: datasets.registered(),
    weights: versions.registered(),
    checkpoints: garbage.released(),
  }));
  /** Nothing that was given to it, and nothing that it alone has, would be lost if it went. */
  const mayGo = (peerId: string) =>
    !jobs.involves(peerId) && !deployments.dependsOn(peerId) && !replication.dependsOn(peerId);
  const logs = new LogDesk(context);
  const tokens = new TokenDesk(context, credentials, () => reachableAddresses(modules));
  const writeCheck = new WriteCheck(store, clock);
  const queue = new SerialQueue();
  const requests = new KeyedRequests({ store, decisions: context.decisions, queue });
  // Agents knock at once; whoever comes before the term is durable waits behind it.
  const opened = queue.run(() =>
    context.decisions.commit(
      {
        ...{ who: { kind: "coordinator" }, subject: "coordinator", isNews: true },
        event: { kind: "coordinator-started", release },
        reason: `started, term ${term}`,
      },
      [collections.counters.put("term", term)],
    ),
  );
  /** Queues work that nobody waits for. When it fails, the next look around does what was left undone. */
  const inTurn = (work: () => Promise<void>): Promise<void> =>
    queue.run(work).catch((cause) => {
      const error = toRingfoldError(cause);
      if (error.code === "STALE_TERM") log.warn({ err: error }, "A decision came too late: another leads");
      else if (error.code !== "CANCELLED") log.error({ err: error }, "A decision failed");
    });
  const lookAround = async () => {
    const { apart } = context;
    await apart.run("jobs", () => jobs.lookAround());
    await apart.run("sweeps", () => sweeps.lookAround()); // after the jobs: trials take what no other job wants
    await apart.run("deployments", () => deployments.lookAround());
    await apart.run("rollouts", () => rollouts.lookAround()); // after the deployments: it goes by their replicas
  };
  /** What nobody waits for: a storm of joins or losses need not look through all artefacts each time. */
  const tidy = async () => {
    const { apart } = context;
    await apart.run("retention", () => retention.lookAround());
    await apart.run("checkpoints", () => garbage.lookAround(clock.nowMs()));
    await apart.run("replication", async () => replication.lookAround());
  };

  // After what is queued already: of a storm of joins or losses only the last one is looked at, and the others with it.
  const lookSoon = coalesced((look) => void inTurn(look), lookAround);

  network.handle(join, (request, { from }) =>
    queue.run(async () => {
      const response = await membership.join(request, from);
      // The newcomer must have its answer before it is asked to work.
      clock.after(0, lookSoon);
      return response;
    }),
  );
  network.handle(leave, ({ reason, incarnation }, { from }) =>
    queue.run(async () => {
      if (context.peers.get(from)?.hello.incarnation !== incarnation) return { released: true };
      await membership.leave(from, reason);
      await lookAround();
      const released = mayGo(from);
      if (released) await membership.release(from);
      return { released };
    }),
  );
  const reports = new ReportFilter(context.peers);
  network.handle(reportJob, async ({ report, origin }, { from }) => {
    context.peers.heardFrom(from);
    await queue.run(async () => {
      if (!reports.isNews(from, origin)) return;
      await jobs.report(from, report);
      reports.took(from, origin);
    });
    return { ok: true };
  });
  network.handle(reportShard, (report, { from }) =>
    queue.run(async () => {
      await deployments.report(from, report);
      await rollouts.lookAround();
      return { ok: true };
    }),
  );
  network.handle(askRegistered, async ({ digest }) => ({
    registered: datasets.registered().present.includes(digest),
  }));
  const hear = async (presence: Presence, from: string) => {
    const isNews = await membership.hear(presence, from);
    if (isNews) await rollouts.hear(from, presence.hello.incarnation, presence.served);
  };
  network.subscribe(presenceTopic, (presence, from) => {
    queue
      .run(() => hear(presence, from))
      .catch((error) => log.debug({ err: error, from }, "Dropped presence"));
  });
  network.onConnection(({ peerId, connected }) => {
    void inTurn(async () => {
      await membership.socketChanged(peerId, connected);
      if (!connected) lookSoon();
    });
  });
  await opened;
  jobs.resume();
  const stopPulse = repeat(clock, lookAroundIntervalMs, async () => context.peers.pulse());
  const stopTicking = repeat(clock, lookAroundIntervalMs, () =>
    inTurn(async () => {
      await membership.judge();
      const forgotten = context.peers.sweep();
      for (const peerId of forgotten)
        for (const each of [context.holders, membership, reports, rollouts]) each.forget(peerId);
      if (forgotten.length > 0) context.changed();
      await lookAround();
      await tidy();
    }),
  );

  const now = () => ({
    nowMs: clock.nowMs(),
    events: context.decisions.news().slice(-eventsShown),
  });
  const operations = createOperations({
    ...{ context, queue, requests, lookAround, membership, jobs, quotas, sweeps },
    ...{ deployments, rollouts, datasets, documents, versions, retention, logs, tokens, mayGo },
  });
  return {
    peerId: network.peerId,
    ...{ release, term, closed: closed.signal },
    peers: () => membership.views(),
    ...operations,
    now,
    view: () => ({
      name: credentials.authority.clusterName,
      ...now(),
      release,
      coordinator: { peerId: network.peerId, term, startedAtMs: time.startedAtMs },
      peers: membership.views(),
      jobs: jobs.views(),
      versions: [...versions.views()],
      deployments: deployments.views(),
      sweeps: sweeps.summaries(),
      rollouts: rollouts.views(),
    }),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    writeTrouble: () => writeCheck.trouble(),
    close: async () => {
      closed.abort();
      stopPulse();
      stopTicking();
      context.holders.close();
      announceChange.cancel();
      listeners.clear();
      await queue.close();
      jobs.close();
    },
  };
}

/** Of whoever leads, now or later; a token holds 32. */
async function reachableAddresses({ network, otherAddresses }: CoordinatorModules): Promise<string[]> {
  const others = (await otherAddresses?.()) ?? [];
  const all = [...network.addresses(), ...others.map((address) => `${address}/p2p/${network.peerId}`)];
  return [...new Set(all)].slice(0, 32);
}
