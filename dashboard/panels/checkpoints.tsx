import { formatCount, shortDigest } from "../format.ts";
import type { Job } from "../views.ts";
import { Scroll } from "./panel.tsx";

/** The points from which the job can go on after a total loss, newest first, and how many ranks hold each. */
export const Checkpoints = ({ checkpoints }: { checkpoints: Job["checkpoints"] }) => (
  <section class="subpanel" aria-label="Checkpoints">
    <h4>Checkpoints</h4>
    {checkpoints.length === 0 ? (
      <p class="empty">None yet.</p>
    ) : (
      <Scroll short label="Table of checkpoints">
        <table>
          <thead>
            <tr>
              <th scope="col" class="number">
                Step
              </th>
              <th scope="col">Parameter hash</th>
              <th scope="col" class="number" title="Ranks that reported this hash">
                Ranks
              </th>
            </tr>
          </thead>
          <tbody>
            {[...checkpoints].reverse().map(({ step, hash, ranks }) => (
              <tr key={`${step} ${hash}`} data-testid="checkpoint-row" data-step={step} data-hash={hash}>
                <th scope="row" class="number">
                  {formatCount(step)}
                </th>
                <td>
                  <code title={hash}>{shortDigest(hash)}</code>
                </td>
                <td class="number">{ranks}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    )}
  </section>
);
