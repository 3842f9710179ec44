import { formatMoment, formatTime } from "../format.ts";
import type { Cluster } from "../views.ts";
import { Empty, Panel, Scroll } from "./panel.tsx";

/** More than anyone scrolls through; the coordinator keeps the rest. */
const shownMax = 200;

/** What was decided, and why. Newest first. */
export function Events({ events }: { events: Cluster["events"] }) {
  const shown = events.slice(-shownMax).reverse();
  return (
    <Panel
      id="events"
      title="Events"
      summary={events.length > 0 ? "decisions and their reasons, newest first" : null}
    >
      {events.length === 0 ? (
        <Empty>Nothing has been decided yet. The first peer that joins is the first event.</Empty>
      ) : (
        <Scroll label="List of events">
          <ol class="events" reversed>
            {shown.map((event) => (
              <li key={event.sequence} data-testid="event-row" data-sequence={event.sequence}>
                <time dateTime={new Date(event.atMs).toISOString()} title={formatMoment(event.atMs)}>
                  {formatTime(event.atMs)}
                </time>
                <span class="event-subject clip" title={event.subject}>
                  {event.subject.startsWith("job-") ? (
                    <a href={`#${event.subject}`}>{event.subject}</a>
                  ) : (
                    event.subject
                  )}
                </span>
                <span class="event-message">{event.message}</span>
              </li>
            ))}
          </ol>
        </Scroll>
      )}
    </Panel>
  );
}
