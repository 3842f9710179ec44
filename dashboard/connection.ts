import type { Clock } from "../protocol/ports.ts";

/**
 * Keeps one event stream open for as long as the page lives, and tells how fresh the page is. It knows no browser
 * interface: the stream and the clock are handed in.
 *
 * The browser's own EventSource retry is not used: it gives up for good at the first HTTP error (a proxy's 502 while
 * the coordinator restarts), and never notices a connection that has silently gone.
 */

export const connectionTiming = {
  /** The coordinator speaks about once a second; ten silent seconds are worth a new connection, without alarm. */
  silentAfterMs: 10_000,
  /** A new connection has to bring its first snapshot within this. */
  firstViewMs: 5_000,
  /** Doubles from the first to the last, so that a restarted coordinator is found at once and a dead one left in peace. */
  retryFirstMs: 500,
  retryLastMs: 5_000,
  /** A coordinator restart takes 2-5 s; more than this is an outage and is called one. */
  lostAfterMs: 20_000,
} as const;

export interface Connection {
  /** `incompatible`: the coordinator answers, but in another release's words. */
  readonly phase: "connecting" | "live" | "reconnecting" | "lost" | "incompatible";
  /** When live: since when without a gap. Otherwise: when the coordinator was heard last, or the page opened. */
  readonly sinceMs: number;
}

/** Opens one stream; returns what closes it. After `onFailure` nothing more is called. */
export type OpenStream<Told> = (handlers: { onData(told: Told): void; onFailure(): void }) => () => void;

interface FollowOptions<Told, View> {
  readonly open: OpenStream<Told>;
  readonly clock: Clock;
  /** Undefined: what was told is not what this page understands. */
  readonly read: (told: Told) => View | undefined;
  readonly onView: (view: View) => void;
  readonly onConnection: (connection: Connection) => void;
}

/**
 * Follows the stream until the returned function is called. One stream and at most two timers are open at any time.
 */
export function followStream<Told, View>({
  open,
  clock,
  read,
  onView,
  onConnection,
}: FollowOptions<Told, View>): () => void {
  let connection: Connection = { phase: "connecting", sinceMs: clock.nowMs() };
  let heardMs = connection.sinceMs;
  let failures = 0;
  let closeStream = () => {};
  let cancelNext = () => {};
  let cancelLost = () => {};

  const enter = (phase: Connection["phase"], sinceMs: number) => {
    if (connection.phase === phase) return;
    connection = { phase, sinceMs };
    onConnection(connection);
  };

  const connect = () => {
    closeStream();
    cancelNext();
    cancelNext = clock.after(connectionTiming.firstViewMs, fail);
    closeStream = open({ onData: receive, onFailure: fail });
  };

  const fail = () => {
    closeStream();
    cancelNext();
    if (connection.phase !== "lost" && connection.phase !== "reconnecting") {
      const quietMs = clock.nowMs() - heardMs;
      cancelLost = clock.after(Math.max(0, connectionTiming.lostAfterMs - quietMs), () =>
        enter("lost", heardMs),
      );
      enter("reconnecting", heardMs);
    }
    const delayMs = Math.min(connectionTiming.retryFirstMs * 2 ** failures, connectionTiming.retryLastMs);
    failures = Math.min(failures + 1, 16);
    cancelNext = clock.after(delayMs, connect);
  };

  const receive = (told: Told) => {
    failures = 0;
    heardMs = clock.nowMs();
    cancelLost();
    cancelNext();
    cancelNext = clock.after(connectionTiming.silentAfterMs, connect);
    const view = read(told);
    if (view === undefined) return enter("incompatible", heardMs);
    enter("live", heardMs);
    onView(view);
  };

  onConnection(connection);
  connect();
  return () => {
    closeStream();
    cancelNext();
    cancelLost();
  };
}
