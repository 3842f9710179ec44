import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import { infer } from "../../scripts/commands/inference/open-inference.ts";
import { readMnistTestImages } from "../../scripts/commands/inference/prediction-input.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const names = ["agent-1", "agent-2", "agent-3", "agent-4"];
const never = new AbortController().signal;
const cluster = useTestCluster(names);

const job = (changes: object = {}) =>
  smallJob({
    model: { architecture: "cnn", filters: [8], hidden: [32] },
    workers: { min: 1, max: 1 },
    microBatchSize: 16,
    epochs: 2,
    ...changes,
  });
const ended = ({ state }: JobView) => state === "succeeded" || state === "failed";
const weightsOf = async (name: string) =>
  (await cluster.until((view) => view.versions.find((version) => version.name === name))).weightsDigest;

test("two agents with a stage each come to the weights of one agent, to the bit", async () => {
  const one = await cluster.api().submitJob(job({ name: "whole" }));
  const whole = await cluster.untilJob(one.id, ended);
  expect(whole.state).toBe("succeeded");
  const two = await cluster.api().submitJob(job({ name: "staged", stages: 2, workers: { min: 2, max: 2 } }));
  const staged = await cluster.untilJob(two.id, ended);
  expect(staged.reason).toBe(whole.reason);
  expect(staged.generations.map(({ ranks }) => ranks.length)).toEqual([2]);
  expect(staged.evaluation).toEqual(whole.evaluation);
  expect(staged.evaluation!.accuracy!).toBeGreaterThan(0.8);
  expect(await weightsOf("staged")).toBe(await weightsOf("whole"));
}, 90_000);

const stepOf = ({ progress }: JobView) => progress?.step ?? 0;
const nameOf = (peerId: string) =>
  names.find((name) => cluster.processes.agent(name).ready.peerId === peerId)!;

test("a stage whose last agent dies is taken over, from the last checkpoint, and costs no bit", async () => {
  const staged = { stages: 2, workers: { min: 2, max: 2 }, checkpoint: { everySteps: 50 } };
  const { id } = await cluster.api().submitJob(job({ name: "lost", ...staged }));
  const before = await cluster.untilJob(id, (view) => stepOf(view) >= 110);
  const victim = nameOf(before.generations[0]!.ranks[1]!);
  await cluster.processes.agent(victim).kill();
  const done = await cluster.untilJob(id, ended);
  expect(done.state).toBe("succeeded");
  expect(done.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(100);
  expect(done.generations.at(-1)!.startStep % 50).toBe(0);
  expect(await weightsOf("lost")).toBe(await weightsOf("whole"));
  await cluster.processes.startAgent(victim);
}, 90_000);

test("of two replicas a stage one dies: nothing is lost, and who comes back heals from the other", async () => {
  const staged = { stages: 2, workers: { min: 2, max: 4 }, checkpoint: { everySteps: 10_000 }, epochs: 12 };
  const { id } = await cluster.api().submitJob(job({ name: "twice", ...staged }));
  const before = await cluster.untilJob(id, (view) => stepOf(view) >= 50);
  expect(before.generations.at(-1)!.ranks).toHaveLength(4);
  const victim = nameOf(before.generations.at(-1)!.ranks[3]!);
  await cluster.processes.agent(victim).kill();
  const halved = await cluster.untilJob(id, ({ generations }) => generations.at(-1)!.ranks.length === 2);
  expect(halved.generations.at(-1)!.startStep).toBeGreaterThanOrEqual(50);
  await cluster.processes.startAgent(victim);
  const whole = await cluster.untilJob(id, ({ generations }) => generations.at(-1)!.ranks.length === 4);
  expect(whole.generations.at(-1)!.startStep).toBeGreaterThan(halved.generations.at(-1)!.startStep);
  const done = await cluster.untilJob(id, ended);
  expect(done.state).toBe("succeeded");
  expect(done.evaluation!.accuracy!).toBeGreaterThan(0.85);
}, 120_000);

test("its version is deployed and predicts", async () => {
  await cluster.api().deploy("staged", { version: 1, shards: 2, replicas: 1 });
  await cluster.until((view) => view.deployments.find(({ live, state }) => live && state === "ready"));
  const { gatewayUrl } = cluster.processes.agent("agent-1").ready;
  const images = await readMnistTestImages({ first: 0, last: 3 });
  const answer = await infer({ gatewayUrl, name: "staged" }, images, never);
  expect(answer.outputs[0]!.data).toHaveLength(40);
}, 60_000);

test("an encoder-decoder, of which several tensors cross each cut, comes to the same bits, and predicts", async () => {
  // A word, and the word the other way round.
  const words = Array.from({ length: 200 }, (_, i) => [0, 1, 2, 3].map((at) => (7 * i + 3 * i * at) % 26));
  const lines = words.map((letters) => {
    const word = letters.map((letter) => String.fromCharCode(97 + letter)).join("");
    return JSON.stringify({ word, back: [...word].reverse().join("") });
  });
  await writeFile(join(cluster.folder, "words.jsonl"), `${lines.join("\n")}\n`);
  const pipeline = "{ kind: pairs, source: word, target: back, sourceLength: 8, targetLength: 8 }";
  await writeFile(join(cluster.folder, "words.yaml"), pipeline);
  const at = (file: string) => join(cluster.folder, file);
  await cluster.ringfold(
    "data",
    "add",
    at("words.jsonl"),
    "--pipeline",
    at("words.yaml"),
    "--agent",
    at("agent-1"),
  );
  const model = { architecture: "encoder-decoder", width: 16, heads: 2, layers: 2 };
  const data = { source: "dataset", name: "words@1" };
  const changes = { model, data, epochs: 1, microBatchSize: 8, batchSize: 32 };
  for (const [name, stages] of [["back-whole"], ["back-staged", 4]] as const) {
    const workers = { min: stages ?? 1, max: stages ?? 1 };
    const { id } = await cluster.api().submitJob(job({ ...changes, name, stages, workers }));
    expect(await cluster.untilJob(id, ended)).toMatchObject({ state: "succeeded" });
  }
  expect(await weightsOf("back-staged")).toBe(await weightsOf("back-whole"));
  await cluster.api().deploy("back-staged", { version: 1, shards: 4, replicas: 1 });
  await cluster.api().deploy("back-whole", { version: 1, shards: 1, replicas: 1 });
  const answers = [];
  for (const name of ["back-staged", "back-whole"]) {
    await cluster.until((view) =>
      view.deployments.find((each) => each.name === name && each.live && each.state === "ready"),
    );
    const { gatewayUrl } = cluster.processes.agent("agent-2").ready;
    const rows = { shape: [3, 16], data: Array.from({ length: 48 }, (_, i) => (i * 5) % 100) };
    answers.push((await infer({ gatewayUrl, name }, rows, never)).outputs[0]!);
  }
  expect(answers[0]).toEqual(answers[1]);
}, 120_000);
