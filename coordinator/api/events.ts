import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import type { Coordinator } from "../coordinator.ts";

/** A view is sent at least this often, so that a reader can tell a quiet cluster from a dead line. */
const keepAliveMs = 5_000;

/**
 * Server-sent events: the whole cluster view on connecting and after changes. A reader that is slow gets fewer views,
 * never a queue of old ones.
 */
export function streamCluster(c: Context, coordinator: Coordinator): Response {
  return streamSSE(c, async (stream) => {
    let wake = () => {};
    let changed = true;
    const unsubscribe = coordinator.onChange(() => {
      changed = true;
      wake();
    });
    stream.onAbort(() => {
      unsubscribe();
      wake();
    });
    try {
      while (!stream.aborted) {
        changed = false;
        await stream.writeSSE({ event: "cluster", data: JSON.stringify(coordinator.view()) });
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, keepAliveMs);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
          if (changed || stream.aborted) wake();
        });
      }
    } finally {
      unsubscribe();
    }
  });
}
