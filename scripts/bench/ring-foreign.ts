import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { firstThatWorks, LineProcess, pathBeside } from "./line-process.ts";
import { type Contender, type Lane, type Measurement, slowestOf } from "./ring-contender.ts";

/** The all-reduces that people would use instead of ours, over loopback TCP. Each is optional. */

const answerSchema = z.object({ ms: z.array(z.number()), checked: z.boolean() });
const run = promisify(execFile);

/** Why a contender is left out: one line for a person. */
export type Missing = string;

/** PyTorch's Gloo. Debian's module belongs to Debian's Python, so that one is tried first. */
export async function openGloo(worldSize: number): Promise<Contender | Missing> {
  const probe = "import torch.distributed as d; assert d.is_gloo_available()";
  const found = await firstThatWorks(["/usr/bin/python3", "python3"], ["-c", probe]);
  if (!found) return "gloo: left out; apt-get install -y --no-install-recommends python3-torch";
  const folder = await mkdtemp(join(tmpdir(), "ringfold-gloo-"));
  const env = { ...process.env, GLOO_SOCKET_IFNAME: "lo", OMP_NUM_THREADS: "1" };
  const parameters = (rank: number) => [
    pathBeside("ring-gloo.py"),
    String(rank),
    String(worldSize),
    join(folder, "store"),
  ];
  const ranks = Array.from({ length: worldSize }, (_, rank) => new LineProcess(found, parameters(rank), env));
  return team({ plane: "gloo", wire: "f32" }, ranks, folder);
}

/** Open MPI over TCP, as between machines; or over the shared memory of one, which shows what loopback TCP costs it. */
export async function openOpenMpi(
  worldSize: number,
  plane: "openmpi" | "openmpiShared",
): Promise<Contender | Missing> {
  const missing =
    "openmpi: left out; apt-get install -y --no-install-recommends openmpi-bin libopenmpi-dev gcc libc6-dev";
  if (!(await firstThatWorks(["mpirun"], ["--version"]))) return missing;
  const folder = await mkdtemp(join(tmpdir(), "ringfold-openmpi-"));
  const program = join(folder, "ring-openmpi");
  try {
    await run("mpicc", ["-O2", "-o", program, pathBeside("ring-openmpi.c")]);
  } catch {
    await rm(folder, { recursive: true, force: true });
    return missing;
  }
  const overTcp = ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"];
  const transport = plane === "openmpi" ? overTcp : ["--mca", "btl", "vader,self"];
  const asRoot = process.getuid?.() === 0 ? ["--allow-run-as-root"] : [];
  const parameters = [
    ...asRoot,
    ...["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"],
    ...["--mca", "pml", "ob1", ...transport],
    ...["-np", String(worldSize), program],
  ];
  const mpirun = new LineProcess("mpirun", parameters, process.env);
  return team({ plane, wire: "f32" }, [mpirun], folder);
}

function team(lane: Lane, processes: readonly LineProcess[], folder: string): Contender {
  return {
    lanes: [lane],
    measure: async ({ bytes, operations }): Promise<Measurement> => {
      const answers = await Promise.all(
        processes.map(async (process) => answerSchema.parse(await process.ask(`${bytes} ${operations}`))),
      );
      return {
        ms: slowestOf(answers.map(({ ms }) => ms)),
        checked: answers.every(({ checked }) => checked),
      };
    },
    close: async () => {
      await Promise.all(processes.map((process) => process.close()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}
