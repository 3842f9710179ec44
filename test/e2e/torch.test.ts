import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { readScript } from "../../scripts/script-file.ts";
import { useTestCluster } from "../fixtures/local-cluster.ts";
import { hasTorch, torchPython as python, torchRelease } from "../fixtures/torch-python.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

if (!hasTorch) console.warn("test/e2e/torch.test.ts is skipped: apt-get install python3-torch");

const names = ["agent-1", "agent-2"];
const scriptPath = fileURLToPath(new URL("../fixtures/torch-script.py", import.meta.url));

describe.skipIf(!hasTorch)(`a PyTorch script on real agents (torch ${torchRelease})`, () => {
  const cluster = useTestCluster(names, { engine: "cpu", python });

  async function submit(args: readonly string[], workers: { min: number; max: number }): Promise<string> {
    const { id } = await cluster.api().submitJob(
      jobSpecSchema.parse({
        ...{ name: "linear", engine: "torch", seed: 7, workers, checkpoint: { everySteps: 20 } },
        ...{ model: { architecture: "script" }, data: { source: "script" } },
        script: { ...(await readScript(scriptPath)), args },
      }),
    );
    return id;
  }
  const over = (job: JobView) => job.state === "succeeded" || job.state === "failed";
  /** What the script has said at its end, by rank that came so far. */
  async function saidBy(id: string, word: string): Promise<string[]> {
    const logs = await Promise.all(
      names.map((name) =>
        readFile(join(cluster.folder, name, "scripts", id, "output.log"), "utf8").catch(() => ""),
      ),
    );
    return logs.flatMap((log) =>
      [...log.matchAll(new RegExp(`^${word} (.*)$`, "gm"))].flatMap(([, rest]) => rest ?? []),
    );
  }

  test("two ranks learn what one learns, up to the order of sums, and end with the same bits", async () => {
    const alone = await cluster.untilJob(await submit(["60", "0", "plain"], { min: 1, max: 1 }), over);
    const together = await cluster.untilJob(await submit(["60", "0", "plain"], { min: 2, max: 2 }), over);
    expect([alone.reason, together.reason]).toEqual(["all steps are done", "all steps are done"]);
    const hashes = await saidBy(together.id, "hash");
    expect(hashes).toHaveLength(2);
    expect(new Set(hashes).size).toBe(1);
    const [one] = await saidBy(alone.id, "norm");
    const [two] = await saidBy(together.id, "norm");
    expect(Number(two)).toBeCloseTo(Number(one), 4);
    expect(together.checkpoints.map(({ step, ranks }) => ({ step, ranks }))).toEqual(
      [20, 40, 60].map((step) => ({ step, ranks: 2 })),
    );
    expect(together.spec.script).toMatchObject({ name: "torch-script.py", source: "" });
    await expect(
      cluster.api().deploy("linear", { version: 2, shards: 1, replicas: 1 }),
    ).rejects.toMatchObject({
      code: "REQUEST_INVALID",
      message: expect.stringContaining("PyTorch"),
    });
  }, 120_000);

  test("gradients that leave during the backward pass, by step.backward or a DDP hook, have the bits of those that do not", async () => {
    const hashes: string[] = [];
    for (const mood of ["large", "large early", "large ddp"]) {
      const job = await cluster.untilJob(await submit(["12", "0", mood], { min: 2, max: 2 }), over);
      expect(job.reason).toBe("all steps are done");
      const said = await saidBy(job.id, "hash");
      expect(said).toHaveLength(2);
      hashes.push(...said);
      if (mood !== "large") expect(job.progress?.hiddenCommunicationMs).toBeGreaterThan(0);
    }
    expect(new Set(hashes).size).toBe(1);
  }, 120_000);

  test("what the ranks print is shown by rank, while they run and afterwards", async () => {
    const path = join(cluster.folder, "talking.py");
    await writeFile(path, await readFile(scriptPath));
    const args = ["run", path, "--workers", "2", "--min", "2", "--follow", "--", "20", "0.02", "talks"];
    const { exitCode, stderr } = await runRingfold(args, { env: cluster.operatorEnv() });
    expect(exitCode).toBe(0);
    for (const rank of [0, 1])
      for (const step of [0, 19])
        expect(stderr).toMatch(
          new RegExp(`^\\[rank ${rank} agent-[12]\\] rank ${rank} is at step ${step}$`, "m"),
        );
    const { id } = (await cluster.api().jobs()).at(-1)!;
    const { stdout } = await runRingfold(["jobs", "logs", id], { env: cluster.operatorEnv() });
    expect(stdout.match(/is at step/g)).toHaveLength(40);
    expect(stdout.match(/\] hash [0-9a-f]{64}$/gm)).toHaveLength(2);
  }, 120_000);

  test("a script that is killed with SIGKILL comes back, heals, and both ranks end with the same bits", async () => {
    const id = await submit(["300", "0.03"], { min: 1, max: 2 });
    await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 30);
    process.kill(await scriptPidOf(cluster.folder, id), "SIGKILL");
    const job = await cluster.untilJob(id, over);
    expect(job.state).toBe("succeeded");
    expect(job.generations.map(({ ranks }) => ranks.length)).toEqual([2, 1, 2]);
    expect(job.generations.at(-1)!.healed).toHaveLength(1);
    const hashes = await saidBy(id, "hash");
    expect(hashes).toHaveLength(2);
    expect(new Set(hashes).size).toBe(1);
  }, 120_000);

  test("a script that throws fails the job with the line, and the agents go on", async () => {
    const path = join(cluster.folder, "broken.py");
    await writeFile(path, await readFile(scriptPath));
    const { exitCode, stderr } = await runRingfold(
      ["run", path, "--workers", "2", "--", "60", "0", "throws"],
      { env: cluster.operatorEnv() },
    );
    expect(stderr).toMatch(/^\[rank [01] agent-[12]\] Traceback \(most recent call last\):$/m);
    expect(stderr).toMatch(/ValueError: no such luck \(broken\.py:\d+\); its log: .*output\.log/);
    expect(exitCode).toBe(1);
    expect(cluster.processes.liveAgents()).toHaveLength(2);
  }, 120_000);
});

/** The Python process of a job on any agent of a cluster. */
async function scriptPidOf(folder: string, jobId: string): Promise<number> {
  for (const entry of await readdir("/proc")) {
    const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    if (command.includes("ringfold") && command.includes(`${folder}/`) && command.includes(`/${jobId}/`))
      return Number(entry);
  }
  throw new Error(`no script of ${jobId} runs`);
}
