import { untilAborted } from "../../agent/deadline.ts";
import { toRingfoldError } from "../../protocol/errors.ts";

/** `info` is a fact that is neither good nor bad here: a GPU that is not there, an engine that is not installed. */
export type Verdict = "ok" | "info" | "warn" | "fail";

/** What a check found, for a person. */
export interface Finding {
  readonly verdict: Verdict;
  readonly detail: string;
  /** What to do about it; empty where there is nothing to do. */
  readonly remedy: string;
}

/** A finding under the name of what was looked at: `disk`, `engine wasm`. */
export interface NamedFinding extends Finding {
  readonly check: string;
}

export interface Check {
  readonly name: string;
  /** @param signal aborts at the check's deadline, or when the person has had enough */
  look(signal: AbortSignal): Promise<Finding>;
}

export const ok = (detail: string): Finding => ({ verdict: "ok", detail, remedy: "" });
export const info = (detail: string, remedy = ""): Finding => ({ verdict: "info", detail, remedy });
export const warn = (detail: string, remedy: string): Finding => ({ verdict: "warn", detail, remedy });
export const fail = (detail: string, remedy: string): Finding => ({ verdict: "fail", detail, remedy });

/**
 * Runs checks one after the other, so that none measures another; each ends at its deadline.
 * @param onFinding called as each is there
 * @returns in order; a check that throws is a failed one with the error's remedy
 */
export async function runChecks(
  checks: readonly Check[],
  { signal, deadlineMs, onFinding }: RunOptions,
): Promise<NamedFinding[]> {
  const findings: NamedFinding[] = [];
  for (const { name, look } of checks) {
    signal.throwIfAborted();
    // A check lets go of a program that may never end; without this the process would end with nothing said.
    const alive = setTimeout(() => {}, deadlineMs);
    const judged = await settled(look, AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]));
    clearTimeout(alive);
    const finding = { check: name, ...judged };
    signal.throwIfAborted();
    findings.push(finding);
    onFinding(finding);
  }
  return findings;
}

interface RunOptions {
  readonly signal: AbortSignal;
  /** Of one check. */
  readonly deadlineMs: number;
  readonly onFinding: (finding: NamedFinding) => void;
}

async function settled(look: Check["look"], signal: AbortSignal): Promise<Finding> {
  try {
    return await untilAborted(look(signal), signal); // whether or not the check heeds its signal
  } catch (cause) {
    const { message, remedy } = toRingfoldError(cause);
    return fail(message, remedy);
  }
}
