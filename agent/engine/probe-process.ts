import { toRingfoldError } from "../../protocol/errors.ts";
import type { EngineName } from "../../protocol/job-spec.ts";
import { openEngine } from "./engine.ts";
import type { ProbeAnswer } from "./probe.ts";

/** Opens the engine once, measures it and ends: the agent itself never loads TF.js. */
const answer = async (prefer: EngineName): Promise<ProbeAnswer> => {
  try {
    const engine = await openEngine({ prefer });
    const { name, reason, gpu, candidates } = engine;
    const gflops = await engine.measureGflops();
    engine.close();
    return { ok: true, engine: { name, reason, gpu, candidates, gflops } };
  } catch (cause) {
    const { code, message } = toRingfoldError(cause, "ENGINE_UNAVAILABLE");
    return { ok: false, code, message };
  }
};

process.on("disconnect", () => process.exit(0));
process.send?.(await answer(process.argv[2] as EngineName), () => process.disconnect());
