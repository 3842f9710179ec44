import { once } from "node:events";

/** Waits for SIGINT or SIGTERM, or for the end of the parent that started us with an IPC channel. */
export async function untilStopped(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const parentGone = process.connected ? once(process, "disconnect") : new Promise(() => {});
  // A bare signal does not keep a process alive; its sockets do.
  await Promise.race([once(signal, "abort"), parentGone]);
}
