import type { Turn, Verdict } from "./sighting.ts";

/** For people: what one look has found. */

const namedMax = 3;

export const troubleText = {
  withheld: (silent: number, known: number): string =>
    `${silent} of ${known} members have fallen silent together: the coordinator takes that for its own trouble, and gives none of them up`,
  over: "the coordinator hears most of its members again, or has waited for them long enough",
} as const;

/** A sentence for each kind of change. */
export function judgementText(turned: readonly Turn[]): string[] {
  return (["suspect", "dead", "alive"] as const).flatMap((to) => {
    const those = turned.filter((turn) => turn.to === to);
    return those.length === 0 ? [] : [sentence(to, those)];
  });
}

function sentence(to: Verdict, turned: readonly Turn[]): string {
  const names = turned.slice(0, namedMax).map(({ sighting }) => sighting.name);
  const more = turned.length - names.length;
  const who = more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
  const isOne = turned.length === 1;
  if (to === "alive") return `${who} ${isOne ? "is" : "are"} here again`;
  const what =
    to === "suspect"
      ? isOne
        ? "is suspected"
        : "are suspected"
      : isOne
        ? "counts as dead"
        : "count as dead";
  const given = turned.every(({ sighting }) => !sighting.connected);
  return `${who} ${what}: ${given ? "the connection is gone, " : ""}silent for ${spanOf(turned)}`;
}

/** How long, and how surely that means death. */
function spanOf(turned: readonly Turn[]): string {
  const range = (values: readonly number[], unit: string) => {
    const [least, most] = [Math.min(...values).toFixed(1), Math.max(...values).toFixed(1)];
    return least === most ? `${least}${unit}` : `${least} to ${most}${unit}`;
  };
  const silences = range(
    turned.map(({ sighting }) => sighting.silentMs / 1_000),
    " s",
  );
  return `${silences} (phi ${range(
    turned.map(({ sighting }) => sighting.phi),
    "",
  )})`;
}
