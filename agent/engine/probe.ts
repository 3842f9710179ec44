import { type ErrorCode, RingfoldError } from "../../protocol/errors.ts";
import { type EngineName, enginesEverywhere } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { Clock } from "../../protocol/ports.ts";
import { endProgram, forkProgram } from "../child-program.ts";
import type { EngineCandidate } from "./port.ts";

export interface EngineFacts {
  readonly name: string;
  readonly reason: string;
  readonly gpu: string | null;
  readonly candidates: readonly EngineCandidate[];
  readonly gflops: number;
}
export type ProbeAnswer =
  | { readonly ok: true; readonly engine: EngineFacts }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

/**
 * Engines that a job may name, where `found` is what comes first: those that were not tried for that reason, each in a process
 * of its own. One whose GPU is software is for its owner to offer (`--engine webgpu`).
 * @param probe as `probeEngine`
 */
export async function namedEngines(
  found: EngineFacts,
  probe: (name: EngineName) => Promise<EngineFacts>,
): Promise<string[]> {
  const names: string[] = [found.name];
  const chosen = found.candidates.findIndex(({ usable }) => usable);
  for (const { name } of found.candidates.slice(chosen + 1)) {
    if (enginesEverywhere.includes(name)) continue;
    const other = await probe(name).catch(() => undefined); // absent, or it crashes: then it is none
    if (other && other.gpu !== null) names.push(name);
  }
  return names;
}

/**
 * What this machine computes with, found in a process of its own: a driver that crashes must not take the agent along.
 * @throws RingfoldError ENGINE_UNAVAILABLE | CANCELLED
 * Cost: about a second.
 */
export async function probeEngine(
  prefer: EngineName,
  clock: Clock,
  signal: AbortSignal,
): Promise<EngineFacts> {
  const child = forkProgram(new URL("./probe-process.ts", import.meta.url), [prefer], "inherit");
  const answer = Promise.withResolvers<ProbeAnswer>();
  const fail = (message: string) => answer.resolve({ ok: false, code: "ENGINE_UNAVAILABLE", message });
  child.on("message", (message: ProbeAnswer) => answer.resolve(message));
  child.once("error", (cause) => fail(`the engine probe could not run: ${cause.message}`));
  child.once("exit", (code, killed) => fail(`the engine probe ended (${killed ?? `exit code ${code}`})`));
  const cancelTimer = clock.after(limits.prepareTimeoutMs, () => fail("the engine probe took too long"));
  const onAbort = () => answer.resolve({ ok: false, code: "CANCELLED", message: "interrupted" });
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const found = await answer.promise;
    if (!found.ok) throw new RingfoldError(found.code, found.message);
    return found.engine;
  } finally {
    cancelTimer();
    signal.removeEventListener("abort", onAbort);
    await endProgram(child, () => child.kill("SIGKILL"), clock);
  }
}
