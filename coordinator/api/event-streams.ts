import type { Context } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Log } from "../../protocol/ports.ts";
import type { Coordinator } from "../port.ts";

export interface ServerEvent {
  readonly event: string;
  readonly data: unknown;
  /** What a reader names in `Last-Event-ID` when it comes back. */
  readonly id?: string;
}

/** Where the events of one reader come from; asked only when the reader has taken all that went before. */
export interface EventSource {
  /** What is new since it was asked last. The first time: where things stand. */
  news(): Iterable<ServerEvent>;
  /** Said when there was nothing for a while, so that a reader can tell a quiet cluster from a dead line. */
  quiet(): ServerEvent;
}

/** Something is sent at least this often. */
const quietMs = 5_000;

/**
 * Server-sent events, to so many readers at once as `limits.eventStreamsMax`. Nothing is queued for a reader: one that is slow
 * gets fewer and newer states, as its source is asked again only when it has read what was sent. All end when the
 * coordinator closes.
 *
 * Source: WHATWG HTML, "Server-sent events", 9.2.
 */
export class EventStreams {
  readonly #coordinator: Coordinator;
  readonly #log: Log;
  readonly #wakers = new Set<() => void>();
  #unsubscribe = () => {};
  /** Grows with each change that was told; the same while nothing has changed. */
  #changes = 0;

  constructor(coordinator: Coordinator, log: Log) {
    this.#coordinator = coordinator;
    this.#log = log;
  }

  get changes(): number {
    return this.#changes;
  }

  /** @throws RingfoldError OVERLOADED */
  open(c: Context, source: EventSource): Response {
    if (this.#wakers.size >= limits.eventStreamsMax)
      throw new RingfoldError("OVERLOADED", `${limits.eventStreamsMax} event streams are open already`);
    let wake = () => {};
    let changed = true;
    const leave = this.#enter(() => {
      changed = true;
      wake();
    });
    const { closed } = this.#coordinator;
    const failed = async (cause: Error) =>
      this.#log.error({ err: toRingfoldError(cause), path: c.req.path }, "A stream of events failed");
    const tell = async (stream: SSEStreamingApi) => {
      const end = () => {
        leave();
        wake();
      };
      stream.onAbort(end);
      closed.addEventListener("abort", end);
      const send = ({ data, ...event }: ServerEvent) =>
        stream.writeSSE({ ...event, data: JSON.stringify(data) });
      const isOver = () => stream.aborted || closed.aborted;
      try {
        while (!isOver()) {
          if (changed) {
            changed = false;
            for (const event of source.news()) {
              await send(event);
              if (isOver()) return;
            }
          } else await send(source.quiet());
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, quietMs);
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
            if (changed || isOver()) wake();
          });
        }
      } finally {
        closed.removeEventListener("abort", end);
        leave();
      }
    };
    return streamSSE(c, tell, failed);
  }

  #enter(waker: () => void): () => void {
    if (this.#wakers.size === 0) {
      this.#changes++; // nobody has counted meanwhile
      this.#unsubscribe = this.#coordinator.onChange(() => {
        this.#changes++;
        for (const wake of this.#wakers) wake();
      });
    }
    this.#wakers.add(waker);
    return () => {
      if (this.#wakers.delete(waker) && this.#wakers.size === 0) this.#unsubscribe();
    };
  }
}
