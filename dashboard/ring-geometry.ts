/** Where the ranks of a ring and the arrows between them go. Pure; units are those of the SVG's view box. */

export const ringBox = { width: 440, height: 300 } as const;

export interface RankPlace {
  readonly rank: number;
  readonly x: number;
  readonly y: number;
  readonly label: { readonly x: number; readonly y: number; readonly anchor: "start" | "middle" | "end" };
}

export interface RingLayout {
  readonly nodeRadius: number;
  /** Names fit beside the ranks; above this world size only the numbers do, and above the next not even those. */
  readonly named: boolean;
  readonly numbered: boolean;
  readonly places: readonly RankPlace[];
  /** SVG path from rank r to rank r + 1 (modulo world size), clockwise; empty for a ring of one. */
  readonly arrows: readonly string[];
}

const centre = { x: ringBox.width / 2, y: ringBox.height / 2 };

/** Rank 0 stands at the top, ranks go clockwise. */
export function layoutRing(worldSize: number): RingLayout {
  const named = worldSize <= 12;
  const numbered = worldSize <= 32;
  const radius = named ? 94 : 134;
  const nodeRadius = named ? 17 : Math.max(1.5, Math.min(13, (Math.PI * radius) / worldSize - 4.5));
  const angleOf = (rank: number) => (2 * Math.PI * rank) / worldSize - Math.PI / 2;
  const at = (angle: number, distance: number) => ({
    x: round(centre.x + distance * Math.cos(angle)),
    y: round(centre.y + distance * Math.sin(angle)),
  });
  const places = Array.from({ length: worldSize }, (_, rank) => {
    const angle = angleOf(rank);
    const across = Math.cos(angle);
    const anchor = across > 0.25 ? "start" : across < -0.25 ? "end" : "middle";
    // Above and below the circle a centred name needs more room than beside it.
    const label = at(angle, radius + nodeRadius + (anchor === "middle" ? 14 : 8));
    return { rank, ...at(angle, radius), label: { ...label, anchor } as const };
  });
  if (worldSize < 2) return { nodeRadius, named, numbered, places, arrows: [] };
  // The angle that a node and a little air cover, so that arrows start and end beside nodes, not in them.
  const air = named ? 5 : 1;
  const gap = Math.min((nodeRadius + air) / radius, Math.PI / worldSize - 0.001);
  const arrows = places.map(({ rank }) => {
    const from = at(angleOf(rank) + gap, radius);
    const to = at(angleOf(rank + 1) - gap, radius);
    return `M ${from.x} ${from.y} A ${radius} ${radius} 0 0 1 ${to.x} ${to.y}`;
  });
  return { nodeRadius, named, numbered, places, arrows };
}

const round = (value: number) => Math.round(value * 100) / 100;
