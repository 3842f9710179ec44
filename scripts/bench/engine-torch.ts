import { z } from "zod";
import type { EngineContender } from "./engine-suite.ts";
import { firstThatWorks, LineProcess, pathBeside } from "./line-process.ts";

const answerSchema = z.object({ samplesPerSecond: z.number() });

/** PyTorch on one thread, in a process of its own; or why not, in a line. */
export async function openTorch(): Promise<EngineContender | string> {
  const found = await firstThatWorks(["/usr/bin/python3", "python3"], ["-c", "import torch"]);
  if (!found) return "torch: left out; apt-get install -y --no-install-recommends python3-torch libopenblas0";
  const env = { ...process.env, OMP_NUM_THREADS: "1", OPENBLAS_NUM_THREADS: "1", MKL_NUM_THREADS: "1" };
  const program = new LineProcess(found, [pathBeside("engine-torch.py")], env);
  return {
    engine: "torch",
    measure: async (model, batch, milliseconds) =>
      answerSchema.parse(await program.ask(JSON.stringify({ model, batch, milliseconds }))).samplesPerSecond,
    close: () => program.close(),
  };
}
