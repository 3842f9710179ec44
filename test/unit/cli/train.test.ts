import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { JobView } from "../../../protocol/messages/api.ts";
import { type CoordinatorServer, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { clusterView, generation, jobView, progress, succeeded } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

let folder: string;
let jobFile: string;
let server: CoordinatorServer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-train-"));
  jobFile = join(folder, "job.yaml");
  await writeFile(jobFile, "name: digits\nmodel: { architecture: cnn }\ndata: { source: mnist }\n");
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(async () => {
  server = await startCoordinatorServer();
  server.routes.set("POST /api/jobs", ({ body }) => ({ body: jobView({ spec: body as JobSpec }) }));
});
afterEach(() => server[Symbol.asyncDispose]());

const env = () => ({ RINGFOLD_COORDINATOR: server.url, RINGFOLD_OPERATOR_TOKEN: "operator" });
const start = (...userArguments: string[]) => startRingfold(userArguments, { env: env() });
const viewOf = (job: JobView) => clusterView({ jobs: [job] });

const running = (step: number, generations: JobView["generations"]): JobView =>
  jobView({ state: "running", reason: "training", progress: progress(step), generations });

test("submits the file, shows each generation with its reason, and ends with version and accuracy", async () => {
  const { outcome } = start("train", jobFile);
  const events = await server.nextSubscriber();
  const first = generation(1, 0, "2 workers present");
  const second = generation(2, 120, "lab-2 left");
  events.publish(viewOf(jobView()));
  events.publish(viewOf(running(10, [first])));
  events.publish(viewOf(running(121, [first, second])));
  events.publish(viewOf(succeeded({ generations: [first, second] })));

  const { exitCode, stdout, stderr } = await outcome;
  expect(exitCode).toBe(0);
  expect(server.requests[0]).toMatchObject({
    method: "POST",
    authorization: "Bearer operator",
    body: { name: "digits", batchSize: 64 },
  });
  expect(stderr.split("\n").filter((line) => line.includes("generation"))).toEqual([
    "job-1 generation 1: world size 2 from step 0: 2 workers present",
    "job-1 generation 2: world size 2 from step 120: lab-2 left",
  ]);
  expect(stderr).toContain("job-1 waiting: waits for 1 more worker: 1 of 2 present");
  expect(stderr).toContain(
    "job-1 step 10/938  loss 0.2500  accuracy 92.5%  6.40k samples/s  world size 2  ring 12%  ETA 9s",
  );
  expect(stderr).not.toContain("succeeded");
  expect(stdout).toBe(
    "job-1 succeeded\n  version digits@1\n  accuracy 98.21% and loss 0.0543 on 10000 test examples\n  1m05s of running time\n",
  );
});

test("--json: stdout holds the finished job and nothing else", async () => {
  const { outcome } = start("train", jobFile, "--json");
  (await server.nextSubscriber()).publish(viewOf(succeeded()));
  const { exitCode, stdout } = await outcome;
  expect(exitCode).toBe(0);
  expect(JSON.parse(stdout)).toEqual(succeeded());
});

test.each([
  ["failed", 1, "JOB_FAILED"],
  ["cancelled", 130, "CANCELLED"],
] as const)("a job that %s ends with %i", async (state, expected, code) => {
  const { outcome } = start("train", jobFile, "--json");
  (await server.nextSubscriber()).publish(viewOf(jobView({ state, reason: "loss is not finite at step 3" })));
  const { exitCode, stdout } = await outcome;
  expect(exitCode).toBe(expected);
  expect(JSON.parse(stdout).error).toMatchObject({
    code,
    message: expect.stringContaining("loss is not finite at step 3"),
    data: { jobId: "job-1", state },
  });
});

test.each([
  ["NOT_FINITE", 65],
  ["HASH_DIVERGED", 70],
  ["A_CODE_OF_A_LATER_RELEASE", 1],
])("a job that failed with %s ends with %i, followed or shown", async (code, expected) => {
  const failed = jobView({ state: "failed", reason: "the reason", failure: { code, message: "the reason" } });
  const { outcome } = start("train", jobFile);
  (await server.nextSubscriber()).publish(viewOf(failed));
  expect(await outcome).toMatchObject({ exitCode: expected, stderr: expect.stringContaining("the reason") });
  server.routes.set("GET /api/jobs/job-1", () => ({ body: failed }));
  const shown = await runRingfold(["jobs", "show", "job-1"], { env: env() });
  expect(shown).toMatchObject({ exitCode: expected, stdout: expect.stringContaining("the reason") });
});

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s detaches: the job goes on and the way back is told",
  async (signal) => {
    const { child, outcome } = start("train", jobFile);
    (await server.nextSubscriber()).publish(viewOf(running(10, [])));
    child.kill(signal);
    const { exitCode, stdout, stderr } = await outcome;
    expect({ exitCode, stdout }).toEqual({ exitCode: 130, stdout: "" });
    expect(stderr).toContain("detached: job-1 goes on");
    expect(stderr).toContain("ringfold jobs cancel job-1");
    expect(server.requests.map(({ path }) => path)).toEqual(["/api/jobs"]);
  },
);

test("outlives a coordinator that goes away, and asks for a job that a view does not list", async () => {
  server.routes.set("GET /api/jobs/job-1", () => ({ body: running(20, []) }));
  const { outcome } = start("train", jobFile);
  const before = await server.nextSubscriber();
  before.publish(viewOf(running(10, [])));
  before.cut();
  const after = await server.nextSubscriber();
  after.publish(clusterView());
  after.publish(viewOf(succeeded()));
  expect((await outcome).exitCode).toBe(0);
});

test("a coordinator that lost the job says so: 66", async () => {
  const { outcome } = start("jobs", "follow", "job-1");
  (await server.nextSubscriber()).publish(clusterView());
  expect((await outcome).exitCode).toBe(66);
});

test("--detach returns at once; --engine goes before the file", async () => {
  const { exitCode, stdout } = await runRingfold(["train", jobFile, "--detach", "--engine", "cpu"], {
    env: env(),
  });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("job-1 submitted");
  expect(server.requests[0]?.body).toMatchObject({ engine: "cpu" });
});

test("--need goes before the file's, need by need, and what it waits for is shown", async () => {
  const needy = join(folder, "needy.yaml");
  await writeFile(
    needy,
    "name: digits\nmodel: { architecture: cnn }\ndata: { source: mnist }\nneeds: { memory: 8GB, cores: 2, labels: { room: a, rack: 3 } }\n",
  );
  const flags = ["gpuMemory=24GB", "cores=8", "labels.room=b"].flatMap((each) => ["--need", each]);
  const { exitCode } = await runRingfold(["train", needy, "--detach", ...flags], { env: env() });
  expect(exitCode).toBe(0);
  expect(server.requests[0]?.body).toMatchObject({
    needs: { gpuMemory: 24e9, memory: 8e9, cores: 8, labels: { room: "b", rack: "3" } },
  });
});

test.each([
  ["gpuMemory", "Give KEY=VALUE, for example gpuMemory=8GB."],
  ["gpuMemory=8G", '"8G": give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30)'],
  ["cores=many", "Give a whole number from 1."],
  ["gpu=8GB", "There are gpuMemory, memory, cores and labels.NAME."],
])("--need %s is refused with 64", async (text, message) => {
  const { exitCode, stderr } = await runRingfold(["train", jobFile, "--need", text], { env: env() });
  expect(exitCode).toBe(64);
  expect(stderr).toContain(message);
  expect(server.requests).toEqual([]);
});

test("a wrong job file or engine reaches no coordinator", async () => {
  const wrong = join(folder, "wrong.yaml");
  await writeFile(
    wrong,
    "name: digits\nmodel: { architecture: cnn }\ndata: { source: mnist }\nepochs: 0\nbatchsize: 1\n",
  );
  const invalid = await runRingfold(["train", wrong], { env: env() });
  expect(invalid.exitCode).toBe(65);
  expect(invalid.stderr).toContain(`${wrong}:4:1 epochs: must be >0`);
  expect(invalid.stderr).toContain(`${wrong}:5:1 batchsize: unknown key (did you mean batchSize?)`);

  expect(await runRingfold(["train", join(folder, "none.yaml")], { env: env() })).toMatchObject({
    exitCode: 66,
  });

  const engine = await runRingfold(["train", jobFile, "--engine", "gpu"], { env: env() });
  expect(engine.exitCode).toBe(64);
  expect(engine.stderr).toContain("choose one of auto, tensorflow, webgpu, wasm, cpu");
  expect(server.requests).toEqual([]);
});
