import type { Context } from "hono";
import type { AnswerOf, RequestOf, Route } from "../../protocol/api/route.ts";
import type { RouteName, Routes } from "../../protocol/api/routes.ts";
import type { SteerAction } from "../../protocol/messages/api.ts";
import type { Coordinator } from "../coordinator.ts";
import { streamCluster } from "./events.ts";
import { lists, pageOf } from "./lists.ts";
import { describeApi } from "./openapi.ts";
import { dialBack, observe } from "./reachability.ts";

/** Answers with the body, or with a response of its own. */
export type Handler<R extends Route> = (
  request: RequestOf<R>,
  c: Context,
) => AnswerOf<R> | Response | Promise<AnswerOf<R> | Response>;

type Handlers = { readonly [Name in RouteName]: Handler<Routes[Name]> };

/** What each route of the table does. */
export function createHandlers(coordinator: Coordinator, addresses: () => readonly string[]): Handlers {
  const steer =
    (action: SteerAction) =>
    ({ parameters, body }: { parameters: { id: string }; body: { reason: string } }) =>
      coordinator.steerJob(parameters.id, action, body.reason);
  const document = describeApi(coordinator.release);
  return {
    live: () => ({ live: true }),
    ready: () => ({ ready: true }),
    openapi: () => document,
    cluster: () => coordinator.view(),
    clusterEvents: (_, c) => streamCluster(c, coordinator),
    audit: ({ query }) => coordinator.audit(query),
    peers: ({ query }) => pageOf(lists.peers, coordinator, query),
    jobs: ({ query }) => pageOf(lists.jobs, coordinator, query),
    job: ({ parameters }) => coordinator.job(parameters.id),
    curve: ({ parameters }) => coordinator.curve(parameters.id),
    submitJob: ({ body }) => coordinator.submitJob(body),
    cancelJob: steer("cancel"),
    pauseJob: steer("pause"),
    resumeJob: steer("resume"),
    retryJob: steer("retry"),
    models: ({ query }) => pageOf(lists.models, coordinator, query),
    model: ({ parameters: { name, version } }) => coordinator.version(name, version),
    deployments: ({ query }) => pageOf(lists.deployments, coordinator, query),
    deploy: ({ parameters, body }) => coordinator.deploy(parameters.name, body),
    undeploy: async ({ parameters }) => {
      await coordinator.removeDeployment(parameters.name);
      return {};
    },
    datasets: ({ query }) => pageOf(lists.datasets, coordinator, query),
    dataset: ({ parameters: { name, version } }) => coordinator.dataset(name, version),
    addDataset: ({ body }) => coordinator.addDataset(body),
    removeDataset: async ({ parameters: { name, version } }) => {
      await coordinator.removeDataset(name, version);
      return {};
    },
    createToken: async ({ body }) => ({ token: await coordinator.createToken(body) }),
    observed: (_, c) => observe(c, addresses()),
    dialBack: ({ body }, c) => dialBack(c, body),
  };
}
