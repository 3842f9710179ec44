import { once } from "node:events";

/**
 * Waits for SIGINT or SIGTERM, or for the end of the parent that started us with an IPC channel; then lets go of the
 * channel, which would keep this process alive.
 */
export async function untilStopped(signal: AbortSignal): Promise<void> {
  const stopped = signal.aborted ? Promise.resolve() : once(signal, "abort");
  const parentGone = process.connected ? once(process, "disconnect") : new Promise(() => {});
  // A bare signal does not keep a process alive; its sockets do.
  await Promise.race([stopped, parentGone]);
  if (process.connected) process.disconnect();
}
