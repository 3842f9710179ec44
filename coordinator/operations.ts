import { RingfoldError } from "../protocol/errors.ts";
import type { SteerAction } from "../protocol/messages/api.ts";
import type { AuditEvent } from "../protocol/messages/audit.ts";
import type { CoordinatorContext } from "./context.ts";
import type { DatasetDesk } from "./dataset-desk.ts";
import type { DeploymentDesk } from "./deployment-desk.ts";
import type { DocumentDesk } from "./document-desk.ts";
import type { JobDesk } from "./job-desk.ts";
import type { KeyedRequests } from "./keyed-requests.ts";
import { traceLineage } from "./lineage.ts";
import type { LogDesk } from "./log-desk.ts";
import type { MembershipDesk } from "./membership-desk.ts";
import type { Coordinator } from "./port.ts";
import { assertMatches } from "./precondition.ts";
import type { QuotaDesk } from "./quota-desk.ts";
import type { RetentionDesk } from "./retention-desk.ts";
import type { RolloutDesk } from "./rollout-desk.ts";
import type { SerialQueue } from "./serial-queue.ts";
import type { SweepDesk } from "./sweep-desk.ts";
import type { TokenDesk } from "./token-desk.ts";
import type { VersionDesk } from "./version-desk.ts";

interface OperationModules {
  readonly context: CoordinatorContext;
  readonly queue: SerialQueue;
  readonly requests: KeyedRequests;
  readonly lookAround: () => Promise<void>;
  readonly membership: MembershipDesk;
  readonly jobs: JobDesk;
  readonly quotas: QuotaDesk;
  readonly sweeps: SweepDesk;
  readonly deployments: DeploymentDesk;
  readonly rollouts: RolloutDesk;
  readonly datasets: DatasetDesk;
  readonly documents: DocumentDesk;
  readonly versions: VersionDesk;
  readonly retention: RetentionDesk;
  readonly logs: LogDesk;
  readonly tokens: TokenDesk;
  /** Whether nothing would be lost if this agent went now. */
  readonly mayGo: (peerId: string) => boolean;
}

/** Of the coordinator itself. */
type Own =
  | "peerId"
  | "release"
  | "term"
  | "closed"
  | "peers"
  | "view"
  | "now"
  | "onChange"
  | "writeTrouble"
  | "close";

/** What steering is in the log. */
const steered = {
  ...{ cancel: "job-cancelled", pause: "job-paused", resume: "job-resumed", retry: "job-retried" },
} as const satisfies Record<SteerAction, AuditEvent["kind"]>;

/** What operators ask and order: questions are answered from memory, and everything that decides waits for its turn. */
export function createOperations(modules: OperationModules): Omit<Coordinator, Own> {
  const { context, queue, requests, lookAround, membership, jobs, quotas, sweeps } = modules;
  const { deployments, rollouts, datasets, documents, versions, retention, logs, tokens, mayGo } = modules;
  /** The configuration of a job or a sweep. */
  const config = (name: string, content: object, addedBy: string, named: string | undefined) => () =>
    documents.ofWork({ kind: "config", name, content, addedBy }, named);
  return {
    drainPeer: (peerId, drained, reason, key) => {
      const answer = () => ({ peer: membership.view(peerId), released: mayGo(peerId) });
      const drain = async () => {
        await membership.drain(peerId, drained, reason);
        await lookAround();
        return answer();
      };
      return requests.once(key, drain, {
        made: drained ? "member-drained" : "member-undrained",
        again: answer,
      });
    },
    removePeer: (peerId, reason, key) => {
      const remove = async () => {
        const { name } = membership.view(peerId);
        if (jobs.involves(peerId) || deployments.dependsOn(peerId))
          throw new RingfoldError("CONFLICT", `a job or a deployment needs ${name}`, {
            ...{ peer: peerId, remedy: `Take it out of service first: \`ringfold peers drain ${name}\`.` },
          });
        await membership.remove(peerId, reason);
        await lookAround();
      };
      return requests.once(key, remove, { made: "member-removed", again: () => {} });
    },
    jobs: () => jobs.views(),
    versions: () => versions.views(),
    deployments: () => deployments.views(),
    job: (jobId) => jobs.view(jobId),
    curve: (jobId) => jobs.curve(jobId),
    jobLogs: (jobId, query) => logs.read(jobs.view(jobId), query),
    jobRevision: (jobId) => jobs.revision(jobId),
    submitJob: (spec, { key, config: named } = {}) => {
      const register = config(spec.name, spec, "a job", named);
      return requests.once(key, () => jobs.submit(datasets.resolve(spec), { register }), {
        made: "job-submitted",
        again: ({ jobId }) => jobs.view(jobId),
      });
    },
    steerJob: (jobId, action, { reason = "", ifMatch } = {}, key) => {
      const steer = async () => {
        assertMatches(() => jobs.revision(jobId), ifMatch);
        return jobs.steer(jobId, action, reason);
      };
      return requests.once(key, steer, { made: steered[action], again: () => jobs.view(jobId) });
    },
    prioritiseJob: (jobId, priority, { reason = "", ifMatch } = {}) =>
      queue.run(() => {
        assertMatches(() => jobs.revision(jobId), ifMatch);
        return jobs.prioritise(jobId, priority, reason);
      }),
    quotas: () => quotas.views(jobs),
    quota: (project) => quotas.view(project, jobs),
    quotaRevision: (project) => quotas.revision(project),
    setQuota: (quota, ifMatch) =>
      queue.run(async () => {
        assertMatches(() => quotas.revision(quota.project), ifMatch);
        await quotas.set(quota);
        await lookAround();
        return quotas.view(quota.project, jobs);
      }),
    removeQuota: (project, ifMatch) =>
      queue.run(async () => {
        assertMatches(() => quotas.revision(project), ifMatch);
        await quotas.remove(project);
        await lookAround();
      }),
    sweeps: () => sweeps.summaries(),
    sweep: (sweepId) => sweeps.view(sweepId),
    submitSweep: ({ job, search }, { key, config: named } = {}) => {
      const register = config(job.name, { ...job, search }, "a sweep", named);
      return requests.once(
        key,
        () => sweeps.submit({ job: datasets.resolve(job, search.metric), search }, register),
        {
          made: "sweep-submitted",
          again: ({ sweepId }) => sweeps.view(sweepId),
        },
      );
    },
    sweepRevision: (sweepId) => sweeps.revision(sweepId),
    cancelSweep: (sweepId, { reason = "", ifMatch } = {}, key) => {
      const cancel = async () => {
        assertMatches(() => sweeps.revision(sweepId), ifMatch);
        return sweeps.cancel(sweepId, reason);
      };
      return requests.once(key, cancel, { made: "sweep-cancelled", again: () => sweeps.view(sweepId) });
    },
    version: (name, selector) => versions.view(name, selector),
    versionDiff: (name, selector, other) => versions.diff(name, selector, other),
    versionData: (name, selector) =>
      datasets.preparedBy(context.versions.get(name, selector).manifest.lineage.dataDigest),
    lineage: (name, selector) =>
      traceLineage(context.versions.get(name, selector), {
        versions: context.versions,
        job: (jobId) => jobs.find(jobId),
        dataset: (digest) => datasets.find(digest),
        document: (kind, reference) => documents.find(kind, reference),
        deployments: deployments.views(),
      }),
    moveAlias: (name, alias, request) => queue.run(() => versions.moveAlias(name, alias, request)),
    removeAlias: (name, alias, from) => queue.run(() => versions.removeAlias(name, alias, from)),
    removeVersion: (name, version) => queue.run(() => versions.remove(name, version)),
    pruneVersions: (name, request) => queue.run(() => versions.prune(name, request)),
    retentionRules: () => retention.views(),
    retentionRule: (model) => retention.view(model),
    retentionRevision: (model) => retention.revision(model),
    setRetentionRule: (rule, ifMatch) =>
      queue.run(async () => {
        assertMatches(() => retention.revision(rule.name), ifMatch);
        await retention.set(rule);
        return retention.view(rule.name);
      }),
    removeRetentionRule: (model, ifMatch) =>
      queue.run(() => {
        assertMatches(() => retention.revision(model), ifMatch);
        return retention.remove(model);
      }),
    deployment: (name) => deployments.view(name),
    deploymentRevision: (name) => deployments.revision(name),
    deploy: (name, request, { ifMatch } = {}) =>
      queue.run(async () => {
        assertMatches(() => deployments.revision(name), ifMatch);
        const { version } = context.versions.get(name, request.version);
        return deployments.deploy(name, { ...request, version });
      }),
    removeDeployment: (name, { ifMatch } = {}) =>
      queue.run(async () => {
        assertMatches(() => deployments.revision(name), ifMatch);
        await deployments.remove(name);
        await rollouts.lookAround();
      }),
    rollouts: () => rollouts.views(),
    rollout: (name) => rollouts.view(name),
    rolloutRevision: (name) => rollouts.revision(name),
    startRollout: (request, key) =>
      requests.once(key, () => rollouts.start(request), {
        made: "rollout-requested",
        again: ({ name }) => rollouts.view(name),
      }),
    orderRollout: (name, order, { ifMatch, ...options } = {}, key) => {
      const give = async () => {
        assertMatches(() => rollouts.revision(name), ifMatch);
        return rollouts.order(name, order, options);
      };
      return requests.once(key, give, { made: "rollout-ordered", again: () => rollouts.view(name) });
    },
    createToken: (request, key, who) =>
      requests.once(key, () => tokens.create(request, who), {
        made: "token-created",
        again: (event) => tokens.issued(event),
      }),
    revokeToken: (id) => queue.run(() => tokens.revoke(id)),
    audit: (query) => context.decisions.page(query),
    datasets: () => datasets.views(),
    dataset: (name, version) => datasets.view(name, version),
    addDataset: (request, key) =>
      requests.once(
        key,
        () =>
          datasets.add(request, () => {
            const { name, addedBy, manifest, pipeline } = request;
            const offered = { kind: "pipeline", name, content: manifest.preparation, addedBy } as const;
            return documents.ofWork(offered, pipeline);
          }),
        { made: "dataset-added", again: ({ dataset }) => datasets.named(dataset) },
      ),
    removeDataset: (name, version) =>
      queue.run(() => datasets.remove(name, version, (digest) => jobs.trainsOn(digest))),
    documents: () => documents.views(),
    document: (kind, name, selector) => documents.view(kind, name, selector),
    documentDiff: (kind, name, selector, other) => documents.diff(kind, name, selector, other),
    addDocument: (offered, key) =>
      requests.once(key, () => documents.add(offered), {
        made: "document-added",
        again: ({ of, document }) => documents.named(of, document),
      }),
    removeDocument: (kind, name, version) => queue.run(() => documents.remove(kind, name, version)),
    moveDocumentAlias: (place, alias, request) => queue.run(() => documents.moveAlias(place, alias, request)),
    removeDocumentAlias: (place, alias, from) => queue.run(() => documents.removeAlias(place, alias, from)),
  };
}
