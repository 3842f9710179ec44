import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { DatasetDetail } from "../../protocol/messages/dataset.ts";
import { loansCsv } from "../fixtures/loans.ts";
import { openTestCluster, showLogsOnFailure, smallJob, type TestCluster } from "../fixtures/local-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

const names = ["agent-1", "agent-2", "agent-3"];
let cluster: TestCluster;
beforeAll(async () => {
  cluster = await openTestCluster(names.slice(0, 1));
}, 60_000);
afterAll(async () => {
  await cluster.close();
}, 60_000);
beforeEach(() => showLogsOnFailure(cluster, names));

const pipeline = `
kind: table
target: { column: repaid }
ignore: [id]
steps:
  - { do: missing, columns: [Income (k)], with: median }
  - { do: normalise }
`;

async function addLoans(rows: number): Promise<DatasetDetail> {
  const { folder, processes } = cluster;
  await writeFile(join(folder, "loans.csv"), loansCsv(rows));
  await writeFile(join(folder, "loans.yaml"), pipeline);
  const { httpUrl, operatorToken } = processes.coordinator.ready;
  const { stdout, stderr, exitCode } = await runRingfold(
    [
      ...["data", "add", join(folder, "loans.csv"), "--pipeline", join(folder, "loans.yaml")],
      ...["--agent", join(folder, "agent-1"), "--json"],
    ],
    { env: { RINGFOLD_COORDINATOR: httpUrl, RINGFOLD_OPERATOR_TOKEN: operatorToken } },
  );
  expect(exitCode, stdout + stderr).toBe(0);
  return JSON.parse(stdout) as DatasetDetail;
}

const tabularJob = (name: string) =>
  smallJob({
    name: "loans",
    data: { source: "dataset", name },
    model: { architecture: "mlp", hidden: [16] },
    optimizer: { kind: "adam", learningRate: 0.01 },
    epochs: 10,
    workers: { min: 2, max: 2 },
  });

test("a CSV that one agent holds trains on two: the other fetches it, and becomes its second holder", async () => {
  const detail = await addLoans(6_000);
  expect(detail).toMatchObject({ name: "loans", version: 1 });
  expect(detail.trainExamples + detail.testExamples).toBe(6_000);
  // The same content keeps its number.
  expect(await addLoans(6_000)).toMatchObject({ version: 1, digest: detail.digest });

  await cluster.processes.startAgent("agent-2");
  const { id } = await cluster.api().submitJob(tabularJob("loans"));
  const job = await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed");
  expect(job).toMatchObject({
    state: "succeeded",
    spec: { data: { name: "loans@1", digest: detail.digest } },
  });
  expect(job.evaluation!.accuracy).toBeGreaterThan(0.9);
  expect(job.evaluation!.examples).toBe(detail.testExamples);
  const [version] = await cluster.api().models();
  const { manifest } = await cluster.api().version("loans", version!.version);
  expect(manifest.lineage.dataDigest).toBe(detail.digest);
  await expect
    .poll(async () => (await cluster.api().datasets())[0]?.holders.length, { timeout: 20_000 })
    .toBe(2);

  // Raw rows are prepared as the training rows were, and answered by the served version.
  await cluster.api().deploy("loans", { version: version!.version, shards: 1, replicas: 1 });
  await cluster.until(({ deployments }) => deployments.find(({ state }) => state === "ready"));
  await writeFile(
    join(cluster.folder, "new.csv"),
    "id,Income (k),region\n1,79,north\n2,,south\n3,21,north\n",
  );
  const { httpUrl } = cluster.processes.coordinator.ready;
  const { stdout, stderr, exitCode } = await runRingfold(
    ["predict", "loans", "--table", join(cluster.folder, "new.csv"), "--json"],
    { env: { RINGFOLD_COORDINATOR: httpUrl } },
  );
  expect(exitCode, stdout + stderr).toBe(0);
  const { predictions } = JSON.parse(stdout) as { predictions: { class: number }[] };
  expect(predictions.map((prediction) => prediction.class)).toEqual([1, expect.any(Number), 0]);
}, 120_000);
