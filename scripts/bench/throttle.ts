import { processesOf, signalProcess } from "../chaos/processes.ts";

/**
 * Short beside a step, long beside what a signal costs. A slow processor is slow at every moment; one that stops for longer
 * than the ranks exchange messages is a different thing, and every message to it waits for its next turn.
 */
const periodMs = 8;
/** New children are looked for so often. */
const lookMs = 1_000;

/**
 * Makes the children of an agent (its trainer) as slow as a core that is theirs for a `share` of the time: they are stopped
 * and continued many times a second, as cpulimit does it.
 * @param folder where the agents of this run write their logs
 * @returns the way to end it; all run freely then
 */
export function throttleChildren(
  agent: { readonly folder: string; readonly name: string; readonly pid: number },
  share: number,
): () => void {
  let children: number[] = [];
  const look = () => {
    children = processesOf(agent.folder)
      .filter(({ owner, pid }) => owner === agent.name && pid !== agent.pid)
      .map(({ pid }) => pid);
  };
  const tell = (signal: NodeJS.Signals) => {
    for (const pid of children) signalProcess(pid, signal);
  };
  look();
  const looking = setInterval(look, lookMs);
  let resuming: NodeJS.Timeout | undefined;
  const stopping = setInterval(() => {
    tell("SIGSTOP");
    resuming = setTimeout(() => tell("SIGCONT"), (1 - share) * periodMs);
  }, periodMs);
  return () => {
    clearInterval(looking);
    clearInterval(stopping);
    clearTimeout(resuming);
    tell("SIGCONT");
  };
}
