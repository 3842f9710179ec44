import { fileURLToPath } from "node:url";
import { RingfoldError } from "../../protocol/errors.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { type ApiClient, createApiClient } from "../commands/api-client.ts";
import { followJob, waitForView } from "../commands/follow/cluster-follower.ts";
import { infer } from "../commands/inference/open-inference.ts";
import { readMnistTestImages } from "../commands/inference/prediction-input.ts";
import { readJobFile } from "../job-file.ts";
import type { LocalCluster } from "../local-cluster/local-cluster.ts";
import type { Stage } from "./stage.ts";

export interface DemoSummary {
  readonly accuracy: number;
  readonly steps: number;
  readonly worldSizes: readonly number[];
  readonly killedAgent: { readonly name: string; readonly peerId: string; readonly atStep: number };
  readonly recoveryMs: number | null;
  /** SHA-256 of all parameters at each checkpoint, and on how many ranks it was the same. */
  readonly parameterHashes: readonly {
    readonly step: number;
    readonly hash: string;
    readonly ranks: number;
  }[];
  readonly version: string;
  readonly predictions: readonly {
    readonly index: number;
    readonly label: number;
    readonly predicted: number;
    readonly score: number;
  }[];
  readonly dashboardUrl: string;
  readonly seconds: number;
}

interface Modules {
  readonly cluster: LocalCluster;
  readonly stage: Stage;
  readonly signal: AbortSignal;
}

const agentNames = ["agent-1", "agent-2", "agent-3", "agent-4"];
const jobPath = fileURLToPath(new URL("../../examples/digits/job.yaml", import.meta.url));
const imageRange = { first: 0, last: 9 };

/** The demo from start to end; throws when anything is not as promised. */
export async function runStory(modules: Modules): Promise<DemoSummary> {
  const startedAtMs = performance.now();
  const { cluster, stage, signal } = modules;

  stage.chapter("A cluster: one coordinator and four agents, each a process of its own");
  const { ready: coordinator } = await cluster.startCoordinator();
  const { httpUrl: dashboardUrl, operatorToken } = coordinator;
  stage.say(`dashboard ${dashboardUrl}`);
  const agents = await Promise.all(agentNames.map((name) => cluster.startAgent(name)));
  for (const { ready } of agents)
    stage.say(`${ready.name} joined as ${ready.peerId.slice(-6)}: ${ready.engine.name} engine`);
  const api = createApiClient({ baseUrl: dashboardUrl, operatorToken, signal });

  stage.chapter("Training a convolutional network on MNIST by ring all-reduce");
  const spec = await readJobFile(jobPath);
  const { id: jobId } = await api.submitJob(spec);
  const { job, killedAgent } = await trainAndKill(api, jobId, modules);
  const { evaluation, version } = job;
  const accuracy = evaluation?.accuracy ?? null;
  if (job.state !== "succeeded" || !evaluation || accuracy === null || !version) {
    throw new RingfoldError("JOB_FAILED", `the job ended as ${job.state}: ${job.reason}`, { jobId });
  }
  stage.say(
    `test accuracy ${(100 * accuracy).toFixed(2)}% on ${evaluation.examples} held-out images; registered as ${version}`,
  );

  stage.chapter("Serving it as 2 shards x 2 replicas");
  await deploy(api, version, modules);
  const predictions = await predict(api, version, modules);
  stage.say(`dashboard ${dashboardUrl}`);

  return {
    accuracy,
    steps: job.progress?.step ?? 0,
    worldSizes: job.generations.map(({ ranks }) => ranks.length),
    killedAgent,
    recoveryMs: job.generations.at(-1)?.recoveryMs ?? null,
    parameterHashes: job.checkpoints,
    version,
    predictions,
    dashboardUrl,
    seconds: Math.round((performance.now() - startedAtMs) / 100) / 10,
  };
}

async function trainAndKill(
  api: ApiClient,
  jobId: string,
  { cluster, stage, signal }: Modules,
): Promise<{ job: JobView; killedAgent: DemoSummary["killedAgent"] }> {
  const victim = agentNames[1]!;
  let killedAgent: DemoSummary["killedAgent"] | undefined;
  const job = await followJob(api, jobId, {
    signal,
    note: stage.say,
    onUpdate: (view) => {
      stage.progress.update(view);
      const { progress } = view;
      if (killedAgent || !progress || progress.step < progress.totalSteps / 2) return;
      killedAgent = { name: victim, peerId: cluster.agent(victim).ready.peerId, atStep: progress.step };
      void cluster.agent(victim).kill();
    },
  });
  stage.progress.close();
  if (!killedAgent)
    throw new RingfoldError("JOB_FAILED", "the job ended before an agent could be killed", { jobId });
  const [before, after] = job.generations.slice(-2);
  stage.say(
    `${victim} was killed (SIGKILL) near step ${killedAgent.atStep}; ${after?.reason ?? "nothing re-formed"}`,
  );
  stage.say(
    `the ring went from ${before?.ranks.length} to ${after?.ranks.length} ranks; first step ${after?.recoveryMs} ms after the break`,
  );
  return { job, killedAgent };
}

async function deploy(api: ApiClient, reference: string, { stage, signal }: Modules): Promise<void> {
  const [name, version] = reference.split("@") as [string, string];
  await api.deploy(name, { version: Number(version), shards: 2, replicas: 2 });
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(60_000)]);
  const ready = await waitForView(api, { signal: deadline, note: stage.say }, (view) =>
    view.deployments.find(
      ({ name: deployed, live, state }) => deployed === name && live && state === "ready",
    ),
  );
  for (const { shardIndex, fromLayer, toLayer, replicas } of ready.shards) {
    const hosts = replicas.map(({ peerId }) => peerId.slice(-6)).join(" and ");
    stage.say(`shard ${shardIndex}: layers ${fromLayer}-${toLayer - 1} on ${hosts}`);
  }
}

async function predict(
  api: ApiClient,
  reference: string,
  { stage, signal }: Modules,
): Promise<DemoSummary["predictions"]> {
  const name = reference.split("@")[0]!;
  const images = await readMnistTestImages(imageRange);
  const gatewayUrl = (await api.peers()).find(({ state }) => state === "alive")?.gatewayUrl;
  if (!gatewayUrl) throw new RingfoldError("NO_REPLICA", "no live agent has a gateway");
  const answer = await infer({ gatewayUrl, name }, images, signal);
  const { data, shape } = answer.outputs[0]!;
  const classCount = shape[1]!;
  stage.say(`POST ${gatewayUrl}/v2/models/${name}/infer, ${shape[0]} test images`);
  const predictions = Array.from({ length: shape[0]! }, (_, row) => {
    const scores = data.slice(row * classCount, (row + 1) * classCount);
    const score = Math.max(...scores);
    return {
      index: imageRange.first + row,
      label: images.labels![row]!,
      predicted: scores.indexOf(score),
      score,
    };
  });
  stage.say(`label      ${predictions.map(({ label }) => label).join(" ")}`);
  stage.say(`predicted  ${predictions.map(({ predicted }) => predicted).join(" ")}`);
  return predictions;
}
