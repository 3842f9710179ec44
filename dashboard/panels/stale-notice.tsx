import type { Connection } from "../connection.ts";
import { formatDuration, formatTime } from "../format.ts";

interface StaleNoticeProps {
  readonly connection: Connection;
  readonly elapsedMs: number;
  /** Nothing was received yet: there is no last state to look at. */
  readonly empty?: boolean;
}

/** Says what the page shows while it does not hear the coordinator, and what to do. Nothing when live. */
export function StaleNotice({ connection, elapsedMs, empty = false }: StaleNoticeProps) {
  const since = `since ${formatTime(connection.sinceMs)} (${formatDuration(Math.floor(elapsedMs / 1_000) * 1_000)})`;
  switch (connection.phase) {
    case "live":
      return null;
    case "connecting":
      return empty ? <p class="notice">Connecting to the coordinator…</p> : null;
    case "incompatible":
      return (
        <p class="notice" data-tone="bad">
          The coordinator speaks another release than this page. Reload the page.
        </p>
      );
    case "reconnecting":
      return (
        <p class="notice" data-tone="warn">
          No word from the coordinator {since}. Trying again.
          {empty ? null : " You see the last state that it sent."}
        </p>
      );
    case "lost":
      return (
        <p class="notice" data-tone="bad">
          <strong>The coordinator is out of reach {since}.</strong> Running generations train on and cached
          placements serve on without it.{empty ? null : " You see the last state that it sent."} Start it
          again with <code>ringfold coordinator</code>, or check the way to it.
        </p>
      );
  }
}
