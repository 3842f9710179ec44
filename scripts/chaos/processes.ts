import { readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { constants } from "node:os";
import { join, parse } from "node:path";
import { RingfoldError } from "../../protocol/errors.ts";

/** One process as Linux tells of it in /proc. */
export interface ProcessFacts {
  readonly pid: number;
  readonly parentPid: number;
  /** Of the log that it writes: the agent that it is or belongs to, or `coordinator`. */
  readonly owner: string;
  /** File descriptors that are open, sockets among them. */
  readonly descriptors: number;
  /** Memory of its own. Pages of mapped files are not: the stores map theirs, and the kernel takes them back at will. */
  readonly residentBytes: number;
  /** It has loaded collect-on-signal.ts; the signal would end another one. */
  readonly collectsOnSignal: boolean;
}

/** @throws RingfoldError USAGE where there is no /proc */
export function assertProcessesCanBeCounted(): void {
  if (process.platform === "linux") return;
  throw new RingfoldError(
    "USAGE",
    "a chaos run counts processes and descriptors in /proc, which only Linux has",
  );
}

/**
 * All processes of a run: those whose stderr is a file in the run's folder. Children inherit it from their agent, so an
 * orphan is found whoever has adopted it.
 */
export function processesOf(folder: string): ProcessFacts[] {
  return readdirSync("/proc")
    .filter((entry) => /^[0-9]+$/.test(entry))
    .flatMap((entry) => {
      try {
        const log = parse(readlinkSync(`/proc/${entry}/fd/2`));
        return log.dir === folder ? [readFacts(Number(entry), log.name)] : [];
      } catch {
        return []; // it has just ended, or belongs to somebody else
      }
    });
}

/** Where a thread writes how much of its memory is alive, in bytes, after a collection (collect-on-signal.ts). */
export const liveMemoryPath = (of: {
  readonly folder: string;
  readonly pid: number;
  readonly threadId: number;
}): string => join(of.folder, `live-memory-${of.pid}-${of.threadId}`);

/** What is alive in all threads of a process; undefined when it has not answered since the last call. */
export function takeLiveBytes(folder: string, pid: number): number | undefined {
  const prefix = liveMemoryPath({ folder, pid, threadId: 0 }).slice(folder.length + 1, -1);
  const paths = readdirSync(folder)
    .filter((name) => name.startsWith(prefix) && !name.endsWith(".part"))
    .map((name) => join(folder, name));
  if (paths.length === 0) return undefined;
  const bytes = paths.reduce((sum, path) => sum + Number(readFileSync(path, "utf8")), 0);
  for (const path of paths) rmSync(path);
  return bytes;
}

/** Sends a signal; a process that is gone already is what was wanted. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
  }
}

/** The kernel keeps a bit for each signal that has a handler, in hexadecimal. */
function catches(status: string, signal: number): boolean {
  const caught = /^SigCgt:\s+([0-9a-f]+)/m.exec(status)?.[1] ?? "0";
  return ((BigInt(`0x${caught}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

function readFacts(pid: number, owner: string): ProcessFacts {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+([0-9]+)`, "m").exec(status)?.[1] ?? 0);
  return {
    pid,
    owner,
    parentPid: field("PPid"),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    residentBytes: 1_024 * field("RssAnon"),
    collectsOnSignal: catches(status, constants.signals.SIGUSR2),
  };
}
