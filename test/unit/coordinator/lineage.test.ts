import { beforeEach, expect, test } from "vitest";
import type { Lineage } from "../../../protocol/messages/lineage.ts";
import { lineageText } from "../../../scripts/commands/present/lineage-text.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";

const alone = { workers: { min: 1, max: 1, spares: 0 } };
let bench: CoordinatorBench;
let worker: BenchWorker;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
});

async function register(from?: string): Promise<void> {
  const { id } = await bench.coordinator.submitJob(exampleSpec({ ...alone, ...(from && { from }) }));
  await trainThrough(worker, id);
}

const edges = ({ edges: all }: Lineage) => all.map(({ from, to, relation }) => `${from} ${relation} ${to}`);
const data = `data:${digestOf("d")}`;

test("data, job, version, what began with it and what served it", async () => {
  await register();
  await register("digits@1");
  await register("digits@2");
  await bench.coordinator.deploy("digits", { version: 2, shards: 1, replicas: 1 });
  const lineage = bench.coordinator.lineage("digits", 2);
  expect(lineage.root).toBe("version:digits@2");
  expect(new Set(edges(lineage))).toEqual(
    new Set([
      `${data} trained job:job-1`,
      `${data} trained job:job-2`,
      `${data} trained job:job-3`,
      "config:digits@1 configured job:job-1",
      "config:digits@2 configured job:job-2",
      "config:digits@3 configured job:job-3",
      "job:job-1 made version:digits@1",
      "job:job-2 made version:digits@2",
      "job:job-3 made version:digits@3",
      "version:digits@1 began job:job-2",
      "version:digits@2 began job:job-3",
      "version:digits@2 served deployment:1",
    ]),
  );
  expect(lineage.nodes.map(({ id }) => id)).toContain("deployment:1");
  for (const { digest } of lineage.nodes.filter(({ kind }) => kind === "job"))
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
});

test("what was removed is still told of, and so is a deployment that has ended, after a restart", async () => {
  await register();
  await register("digits@1");
  await bench.coordinator.deploy("digits", { version: 2, shards: 1, replicas: 1 });
  await bench.coordinator.removeDeployment("digits");
  await bench.coordinator.removeVersion("digits", 1);
  bench.crash();
  const { nodes } = (await bench.start()).lineage("digits", 2);
  const detail = (id: string) => nodes.find((node) => node.id === id)?.detail;
  expect(detail("version:digits@1")).toMatch(/removed$/);
  expect(detail("deployment:1")).toBe("ended");
});

test("the tree for people, and the graph for programs that draw", async () => {
  await register();
  await register("digits@1");
  const lineage = bench.coordinator.lineage("digits", 2);
  const lines = lineageText(lineage, "tree").split("\n");
  expect(lines[0]).toMatch(/^digits@2 [0-9a-f]{12} {2}accuracy 90\.00% {2}unsigned {2}registered by \w{6}$/);
  expect(lines[1]).toMatch(/^└─ made by job-2/);
  expect(lines.join("\n")).toMatch(/began with digits@1/);
  const dot = lineageText(lineage, "dot");
  expect(dot).toContain('"version:digits@1" -> "job:job-2" [label="began"]');
  expect(lineageText(lineage, "mermaid").split("\n")).toHaveLength(
    1 + lineage.nodes.length + lineage.edges.length,
  );
});
