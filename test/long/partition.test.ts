import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { z } from "zod";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { type JobView, jobViewSchema } from "../../protocol/messages/api.ts";
import { type LogEvidence, readLogEvidence } from "../../scripts/chaos/agent-logs.ts";
import { startAgentProcess } from "../../scripts/local-cluster/local-cluster.ts";
import { startReadyProcess } from "../../scripts/local-cluster/ready-process.ts";
import { type VirtualMachine, whyNoVirtualNetworks } from "../../scripts/local-cluster/virtual-network.ts";
import { useNetworkBench } from "../fixtures/network-bench.ts";

/** A network that falls in two while a job trains: packets vanish, no socket is told. Real processes, two subnets. */

const obstacle = whyNoVirtualNetworks();
const coordinatorSchema = z.object({
  httpUrl: z.string(),
  operatorToken: z.string(),
  joinToken: z.string(),
});

const bench = useNetworkBench("ringfold-partition-");

/** A coordinator on the first machine of the first subnet, an agent on every other machine, and a job without an end. */
async function train(agentCounts: readonly [number, number], workers: { min: number; max: number }) {
  const machines = await bench.openNetwork([1 + agentCounts[0], agentCounts[1]], { routed: true });
  const [[home, ...near], far] = machines as [[VirtualMachine, ...VirtualMachine[]], VirtualMachine[]];
  const options = async (name: string, { wrapper }: VirtualMachine) => {
    await mkdir(join(bench.folder, name));
    const env = { ...process.env, RINGFOLD_HOME: bench.folder };
    return { logPath: join(bench.folder, `${name}.log`), env, wrapper, signal: bench.signal };
  };
  const coordinator = await startReadyProcess(
    ["coordinator", "--data", join(bench.folder, "coordinator"), "--http", "127.0.0.1:7080"],
    { ...(await options("coordinator", home)), schema: coordinatorSchema },
  );
  bench.processes.push(coordinator);
  for (const [index, machine] of [...near, ...far].entries()) {
    const name = `agent-${index + 1}`;
    const parameters = [
      "--data",
      join(bench.folder, name),
      "--name",
      name,
      "--join",
      coordinator.ready.joinToken,
    ];
    bench.processes.push(await startAgentProcess({ parameters, ...(await options(name, machine)) }));
  }
  const { operatorToken, httpUrl } = coordinator.ready;
  /** The API is asked from the coordinator's machine: this one is not in its network. */
  const ask = async (path: string, body?: unknown): Promise<unknown> => {
    const request = {
      method: body === undefined ? "GET" : "POST",
      headers: { authorization: `Bearer ${operatorToken}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    const program = `console.log(await (await fetch(${JSON.stringify(httpUrl + path)}, ${JSON.stringify(request)})).text())`;
    return JSON.parse(await home.run(process.execPath, "--input-type=module", "-e", program));
  };
  const spec = jobSpecSchema.parse({
    ...{ name: "partition", model: { architecture: "mlp", hidden: [16] }, workers, epochs: 100_000 },
    data: { source: "mnist", trainExamples: 2_048, testExamples: 200 },
    checkpoint: { everySteps: 200 }, // at each of which every rank says what its parameters are
  });
  const { id } = jobViewSchema.parse(await ask("/api/jobs", spec));
  const job = async (): Promise<JobView> => jobViewSchema.parse(await ask(`/api/jobs/${id}`));
  const until = async (accept: (job: JobView) => void, timeoutMs = 40_000): Promise<JobView> => {
    let seen: JobView | undefined;
    await vi.waitFor(
      async () => {
        seen = await job();
        accept(seen);
      },
      { timeout: timeoutMs, interval: 200 },
    );
    return seen!;
  };
  const isTraining =
    (worldSize: number, fromStep = 0) =>
    ({ state, generations, progress }: JobView) => {
      expect({ state, worldSize: generations.at(-1)?.ranks.length }).toEqual({ state: "running", worldSize });
      expect(progress).toMatchObject({ worldSize });
      expect(progress!.step).toBeGreaterThan(fromStep);
    };
  /** What the trainers of this agent have written about the ends of their generations. */
  const endsOf = async (name: string): Promise<LogEvidence> =>
    readLogEvidence(join(bench.folder, `${name}.log`), id);
  return { job, until, isTraining, endsOf };
}

/** Steps of this ring at which all its ranks have said what their parameters are. */
const agreedSteps = ({ checkpoints, generations }: JobView): number[] => {
  const { ranks, startStep } = generations.at(-1)!;
  return checkpoints.flatMap((each) =>
    each.step > startStep && each.ranks >= ranks.length ? [each.step] : [],
  );
};

test.skipIf(obstacle)(
  "the majority goes on without the rest, which comes back when the network does",
  async () => {
    const { until, isTraining, endsOf } = await train([2, 1], { min: 1, max: 3 });
    const haveAgreed =
      (worldSize: number, fromStep = 0) =>
      (job: JobView) => {
        isTraining(worldSize, fromStep)(job);
        expect(agreedSteps(job)).not.toEqual([]);
      };
    const before = await until(haveAgreed(3));
    const { generation } = before.generations.at(-1)!;
    await bench.network.partition(true);
    const alone = await until(haveAgreed(2, before.progress!.step));
    // Who was cut off has ended by itself, at most one step beyond what the others know, and begins nothing.
    const ends = await vi.waitFor(async () => {
      const { endedAt } = await endsOf("agent-3");
      expect(endedAt.at(-1)).toMatchObject({ generation });
      return endedAt;
    });
    const isolated = ends.at(-1)!.step;
    expect(isolated).toBeLessThanOrEqual(alone.generations.at(-1)!.startStep + 1);
    const later = await until(isTraining(2, alone.progress!.step + 100));
    expect((await endsOf("agent-3")).endedAt).toEqual(ends);
    await bench.network.partition(false);
    const whole = await until(haveAgreed(3, later.progress!.step));
    // No step was lost, and who was away has copied what it missed.
    const starts = whole.generations.map(({ startStep }) => startStep);
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
    expect(whole.generations.at(-1)!.healed).toHaveLength(1);
    for (const name of ["agent-1", "agent-2", "agent-3"])
      expect(await endsOf(name)).toMatchObject({ divergences: 0 });
  },
  120_000,
);

test.skipIf(obstacle)(
  "a minority with the coordinator, and a majority without it, both wait",
  async () => {
    const { job, until, isTraining, endsOf } = await train([1, 2], { min: 2, max: 3 });
    const before = await until(isTraining(3));
    const { generation } = before.generations.at(-1)!;
    await bench.network.partition(true);
    const stopped = await until(({ state }) => expect(state).toBe("reforming"));
    await until(({ reason }) => expect(reason).toMatch(/waits for (1 more worker|a majority)/));
    // Neither side steps: each rank has ended that generation, within a step of the others.
    const steps = await vi.waitFor(
      async () => {
        const ends = await Promise.all(["agent-1", "agent-2", "agent-3"].map(endsOf));
        const last = ends.map(({ endedAt }) => endedAt.at(-1));
        expect(last.map((end) => end?.generation)).toEqual([generation, generation, generation]);
        return last.map((end) => end!.step);
      },
      { timeout: 20_000, interval: 200 },
    );
    expect(Math.max(...steps) - Math.min(...steps)).toBeLessThanOrEqual(1);
    expect((await job()).generations).toHaveLength(stopped.generations.length);
    await bench.network.partition(false);
    const whole = await until((seen) => {
      isTraining(3, before.progress!.step)(seen);
      expect(agreedSteps(seen)).not.toEqual([]);
    });
    // Who is back first goes on where the most advanced one was; others may join later.
    const next = whole.generations.find((each) => each.generation === generation + 1);
    expect(next!.startStep).toBe(Math.max(...steps));
  },
  120_000,
);
