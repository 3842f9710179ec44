import type { Context } from "hono";
import type { AnswerOf, Route } from "../../protocol/api/route.ts";
import type { RouteName, Routes } from "../../protocol/api/routes.ts";
import type { SteerAction } from "../../protocol/messages/api.ts";
import type { RolloutOrder } from "../../protocol/messages/rollout.ts";
import type { Log } from "../../protocol/ports.ts";
import type { RequestKey } from "../keyed-requests.ts";
import type { Coordinator } from "../port.ts";
import { Revised } from "./entity-tags.ts";
import { EventStreams } from "./event-streams.ts";
import { type List, type ListQuery, lists, pageOf, pageOfDecisions } from "./lists.ts";
import { describeApi } from "./openapi.ts";
import { dialBack, observe } from "./reachability.ts";
import type { ServedRequest } from "./serve.ts";
import { acceptsEvents, decisions, wholeCluster } from "./sources.ts";
import { WatchedList } from "./watched-list.ts";

/** Answers with the body, or with a response of its own. */
export type Handler<R extends Route> = (
  request: ServedRequest<R>,
  c: Context,
) => AnswerOf<R> | Revised | Response | Promise<AnswerOf<R> | Response>;

type Handlers = { readonly [Name in RouteName]: Handler<Routes[Name]> };

interface SteerRequest {
  readonly parameters: { readonly id: string };
  readonly body: { readonly reason: string };
  readonly ifMatch: readonly string[] | undefined;
  readonly key: RequestKey | undefined;
}

interface RolloutOrderRequest {
  readonly parameters: { readonly name: string };
  readonly body: { readonly reason: string; readonly full?: boolean };
  readonly ifMatch: readonly string[] | undefined;
  readonly key: RequestKey | undefined;
}

interface HandlerModules {
  readonly coordinator: Coordinator;
  /** Multiaddrs of the coordinator's node. */
  readonly addresses: () => readonly string[];
  readonly coordinatorUrls: () => readonly string[];
  readonly log: Log;
}

/** Of a page only what it shows is asked for. */
const wantedOf = <Query extends ListQuery>({ limit: _, cursor: __, ...wanted }: Query) => wanted;

/** What each route of the table does. */
export function createHandlers({ coordinator, addresses, coordinatorUrls, log }: HandlerModules): Handlers {
  const steer =
    (action: SteerAction) =>
    ({ parameters, body, ifMatch, key }: SteerRequest) =>
      coordinator.steerJob(parameters.id, action, { ...body, ...(ifMatch && { ifMatch }) }, key);
  const orderRollout =
    (order: RolloutOrder) =>
    ({ parameters, body, ifMatch, key }: RolloutOrderRequest) =>
      coordinator.orderRollout(parameters.name, order, { ...body, ...(ifMatch && { ifMatch }) }, key);
  const streams = new EventStreams(coordinator, log);
  const watching = <Item extends object>(list: List<Item>) => new WatchedList(list, coordinator, streams);
  const shown = {
    peers: watching(lists.peers),
    jobs: watching(lists.jobs),
    versions: watching(lists.models),
    deployments: watching(lists.deployments),
    sweeps: watching(lists.sweeps),
    rollouts: watching(lists.rollouts),
  };
  /** A page, or what is watched from now on. */
  const list = <Item extends object>(list: List<Item>, watched = watching(list)) => {
    return ({ query }: { readonly query: ListQuery }, c: Context) => {
      return acceptsEvents(c)
        ? streams.open(c, watched.watch(wantedOf(query), c.req.header("last-event-id")))
        : pageOf(list, coordinator, query);
    };
  };
  const document = describeApi(coordinator.release);
  return {
    live: () => ({ live: true }),
    ready: async (_, c) => {
      const trouble = await coordinator.writeTrouble();
      const reasons = trouble === undefined ? [] : [trouble];
      const readiness = { ready: reasons.length === 0, standby: false, reasons };
      const status = readiness.ready ? 200 : 503;
      return c.json({ ...readiness, coordinators: [...coordinatorUrls()] }, status);
    },
    openapi: () => document,
    cluster: () => coordinator.view(),
    clusterEvents: (_, c) => streams.open(c, wholeCluster(coordinator, shown)),
    audit: ({ query }, c) =>
      acceptsEvents(c)
        ? streams.open(c, decisions(coordinator, wantedOf(query), c.req.header("last-event-id")))
        : pageOfDecisions(coordinator, query),
    peers: list(lists.peers, shown.peers),
    drainPeer: ({ parameters: { id }, body: { drained, reason }, key }) =>
      coordinator.drainPeer(id, drained, reason, key),
    removePeer: async ({ parameters: { id }, body: { reason }, key }) => {
      await coordinator.removePeer(id, reason, key);
      return {};
    },
    jobs: list(lists.jobs, shown.jobs),
    job: ({ parameters: { id } }) => new Revised(coordinator.job(id), coordinator.jobRevision(id)),
    jobLogs: ({ parameters: { id }, query }) => coordinator.jobLogs(id, query),
    curve: ({ parameters }) => coordinator.curve(parameters.id),
    submitJob: ({ body, key, query: { config } }) => coordinator.submitJob(body, { key, config }),
    cancelJob: steer("cancel"),
    pauseJob: steer("pause"),
    resumeJob: steer("resume"),
    retryJob: steer("retry"),
    prioritiseJob: ({ parameters: { id }, body: { priority, reason }, ifMatch }) =>
      coordinator.prioritiseJob(id, priority, { reason, ...(ifMatch && { ifMatch }) }),
    quotas: list(lists.quotas),
    quota: ({ parameters: { project } }) =>
      new Revised(coordinator.quota(project), coordinator.quotaRevision(project)!),
    setQuota: ({ parameters, body, ifMatch }) => coordinator.setQuota({ ...parameters, ...body }, ifMatch),
    removeQuota: async ({ parameters: { project }, ifMatch }) => {
      await coordinator.removeQuota(project, ifMatch);
      return {};
    },
    sweeps: list(lists.sweeps, shown.sweeps),
    sweep: ({ parameters: { id } }) => new Revised(coordinator.sweep(id), coordinator.sweepRevision(id)),
    submitSweep: ({ body, key, query: { config } }) => coordinator.submitSweep(body, { key, config }),
    cancelSweep: ({ parameters: { id }, body: { reason }, ifMatch, key }) =>
      coordinator.cancelSweep(id, { reason, ifMatch }, key),
    models: list(lists.models, shown.versions),
    model: ({ parameters: { name, selector } }) => coordinator.version(name, selector),
    versionDiff: ({ parameters: { name, selector }, query }) => ({
      differences: coordinator.versionDiff(name, selector, query.with),
    }),
    versionData: ({ parameters: { name, selector } }) => coordinator.versionData(name, selector),
    lineage: ({ parameters: { name, selector } }) => coordinator.lineage(name, selector),
    removeVersion: async ({ parameters: { name, version } }) => {
      await coordinator.removeVersion(name, version);
      return {};
    },
    pruneVersions: ({ parameters, body }) => coordinator.pruneVersions(parameters.name, body),
    retentionRules: list(lists.retentionRules),
    retentionRule: ({ parameters: { model } }) =>
      new Revised(coordinator.retentionRule(model), coordinator.retentionRevision(model)!),
    setRetentionRule: ({ parameters: { model }, body, ifMatch }) =>
      coordinator.setRetentionRule({ name: model, ...body }, ifMatch),
    removeRetentionRule: async ({ parameters: { model }, ifMatch }) => {
      await coordinator.removeRetentionRule(model, ifMatch);
      return {};
    },
    moveAlias: ({ parameters: { name, alias }, body }) => coordinator.moveAlias(name, alias, body),
    removeAlias: async ({ parameters: { name, alias }, query: { from } }) => {
      await coordinator.removeAlias(name, alias, from);
      return {};
    },
    deployments: list(lists.deployments, shown.deployments),
    deployment: ({ parameters: { name } }) =>
      new Revised(coordinator.deployment(name), coordinator.deploymentRevision(name)!),
    deploy: ({ parameters, body, ifMatch }) => coordinator.deploy(parameters.name, body, { ifMatch }),
    undeploy: async ({ parameters, ifMatch }) => {
      await coordinator.removeDeployment(parameters.name, { ifMatch });
      return {};
    },
    rollouts: list(lists.rollouts, shown.rollouts),
    rollout: ({ parameters: { name } }) =>
      new Revised(coordinator.rollout(name), coordinator.rolloutRevision(name)),
    startRollout: ({ body, key }) => coordinator.startRollout(body, key),
    pauseRollout: orderRollout("pause"),
    resumeRollout: orderRollout("resume"),
    promoteRollout: orderRollout("promote"),
    abortRollout: orderRollout("abort"),
    datasets: list(lists.datasets),
    dataset: ({ parameters: { name, version } }) => coordinator.dataset(name, version),
    addDataset: ({ body, key }) => coordinator.addDataset(body, key),
    removeDataset: async ({ parameters: { name, version } }) => {
      await coordinator.removeDataset(name, version);
      return {};
    },
    documents: list(lists.documents),
    document: ({ parameters: { kind, name, selector } }) => coordinator.document(kind, name, selector),
    addDocument: ({ body, key }) => coordinator.addDocument(body, key),
    documentDiff: ({ parameters: { kind, name, selector }, query }) => ({
      differences: coordinator.documentDiff(kind, name, selector, query.with),
    }),
    removeDocument: async ({ parameters: { kind, name, version } }) => {
      await coordinator.removeDocument(kind, name, version);
      return {};
    },
    moveDocumentAlias: ({ parameters: { kind, name, alias }, body }) =>
      coordinator.moveDocumentAlias({ kind, name }, alias, body),
    removeDocumentAlias: async ({ parameters: { kind, name, alias }, query: { from } }) => {
      await coordinator.removeDocumentAlias({ kind, name }, alias, from);
      return {};
    },
    createToken: ({ body, key }) => coordinator.createToken(body, key),
    revokeToken: async ({ parameters: { id } }) => {
      await coordinator.revokeToken(id);
      return {};
    },
    observed: (_, c) => observe(c, addresses()),
    dialBack: ({ body }, c) => dialBack(c, body),
  };
}
