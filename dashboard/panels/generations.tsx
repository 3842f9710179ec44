import { formatCount, formatDuration, formatMoment, formatTime } from "../format.ts";
import type { Job } from "../views.ts";
import { Scroll } from "./panel.tsx";

/** Every plan that the job has had, newest first: why the ring re-formed, and how long that took. */
export const Generations = ({
  generations,
  generationCount,
}: Pick<Job, "generations" | "generationCount">) => (
  <section class="subpanel" aria-label="Generations">
    <h4>Generations</h4>
    {generations.length === 0 ? (
      <p class="empty">The first one is planned when enough workers are ready.</p>
    ) : (
      <Scroll short label="Table of generations">
        <table class="generations">
          <thead>
            <tr>
              <th scope="col" class="number">
                No.
              </th>
              <th scope="col" class="number">
                Ranks
              </th>
              <th scope="col" class="number">
                From step
              </th>
              <th scope="col" class="number" title="From the event that broke the ring to the next step">
                Recovery
              </th>
              <th scope="col">Reason</th>
            </tr>
          </thead>
          <tbody>
            {[...generations].reverse().map((generation) => (
              <tr
                key={generation.generation}
                data-testid="generation-row"
                data-generation={generation.generation}
              >
                <th scope="row" class="number" title={formatMoment(generation.startedAtMs)}>
                  {generation.generation}
                </th>
                <td class="number">{generation.ranks.length}</td>
                <td class="number">{formatCount(generation.startStep)}</td>
                <td
                  class="number"
                  data-testid="generation-recovery"
                  data-value={generation.recoveryMs ?? undefined}
                >
                  {formatDuration(generation.recoveryMs)}
                </td>
                <td class="generation-reason">
                  {generation.reason} <span class="muted">{formatTime(generation.startedAtMs)}</span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    )}
    {generationCount > generations.length ? (
      <p class="muted">{formatCount(generationCount - generations.length)} after the first are not kept.</p>
    ) : null}
  </section>
);
