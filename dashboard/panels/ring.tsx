import { clipMiddle } from "../format.ts";
import { layoutRing, type RankPlace, type RingLayout, ringBox } from "../ring-geometry.ts";
import { isEnded, type Job, type Peer } from "../views.ts";
import { peerName } from "./peer-name.tsx";

/** The ring of the current generation: ranks clockwise, arrows in the direction that data flows. */
export function Ring({ job, peers }: { job: Job; peers: readonly Peer[] }) {
  const generation = job.generations.at(-1);
  if (generation === undefined) {
    return <p class="empty">No ring yet: {job.reason || "the job has not started"}.</p>;
  }
  const { ranks } = generation;
  const layout = layoutRing(ranks.length);
  const stateOf = (rank: number) => peers.find(({ peerId }) => peerId === ranks[rank])?.state ?? "dead";
  const isPresent = (rank: number) => !["dead", "left", "away"].includes(stateOf(rank));
  // The ring of an ended job is a record: that its peers left since breaks nothing.
  const isWhole = (rank: number) => isEnded(job) || (isPresent(rank) && isPresent((rank + 1) % ranks.length));
  const missing = ranks.filter((_, rank) => !isPresent(rank)).length;
  const summary = `Ring of generation ${generation.generation}: ${ranks.length} ranks, ${missing} of them gone`;
  return (
    <figure class="ring">
      <svg
        viewBox={`0 0 ${ringBox.width} ${ringBox.height}`}
        class={layout.named ? "" : "crowded"}
        role="img"
        aria-label={summary}
      >
        <defs>
          <marker
            id="ring-head"
            viewBox="0 0 8 8"
            refX="6"
            refY="4"
            markerWidth="8"
            markerHeight="8"
            orient="auto"
          >
            <path d="M 0 0.8 L 7 4 L 0 7.2 Z" />
          </marker>
        </defs>
        {layout.arrows.map((path, rank) => (
          <path
            key={ranks[rank]}
            class={isWhole(rank) ? "arrow" : "arrow broken"}
            d={path}
            marker-end={layout.numbered ? "url(#ring-head)" : undefined}
          />
        ))}
        {layout.places.map((place) => (
          <RankNode
            key={ranks[place.rank]}
            place={place}
            layout={layout}
            peerId={ranks[place.rank]!}
            name={peerName(peers, ranks[place.rank]!)}
            state={stateOf(place.rank)}
          />
        ))}
        <text class="ring-generation" x={ringBox.width / 2} y={ringBox.height / 2 - 4}>
          generation {generation.generation}
        </text>
        <text class="ring-world" x={ringBox.width / 2} y={ringBox.height / 2 + 16}>
          {ranks.length === 1 ? "1 rank, nothing to send" : `${ranks.length} ranks, clockwise`}
        </text>
      </svg>
      <ol class="visually-hidden" start={0}>
        {ranks.map((peerId, rank) => (
          <li key={peerId}>
            {peerName(peers, peerId)}, {stateOf(rank)}
          </li>
        ))}
      </ol>
    </figure>
  );
}

interface RankNodeProps {
  readonly place: RankPlace;
  readonly layout: RingLayout;
  readonly peerId: string;
  readonly name: string;
  readonly state: Peer["state"];
}

const RankNode = ({ place, layout, peerId, name, state }: RankNodeProps) => (
  <g class="rank" data-testid="ring-rank" data-rank={place.rank} data-peer-id={peerId} data-state={state}>
    <title>
      rank {place.rank}: {name}, {state}
    </title>
    <circle cx={place.x} cy={place.y} r={layout.nodeRadius} />
    {layout.numbered ? (
      <text
        class="rank-number"
        x={place.x}
        y={place.y}
        style={{ fontSize: `${Math.min(14, layout.nodeRadius)}px` }}
      >
        {place.rank}
      </text>
    ) : null}
    {layout.named ? (
      <text class="rank-name" x={place.label.x} y={place.label.y} text-anchor={place.label.anchor}>
        {clipMiddle(name, 14)}
      </text>
    ) : null}
  </g>
);
