type Tone = "good" | "busy" | "warn" | "bad" | "neutral";

const tones: Readonly<Record<string, Tone>> = {
  // peers
  alive: "good",
  suspect: "warn",
  dead: "bad",
  left: "neutral",
  away: "neutral",
  // jobs
  waiting: "neutral",
  preparing: "busy",
  running: "good",
  reforming: "warn",
  paused: "neutral",
  succeeded: "good",
  failed: "bad",
  cancelled: "neutral",
  // deployments
  loading: "busy",
  ready: "good",
  degraded: "warn",
  unavailable: "bad",
  // rollouts
  placing: "busy",
  progressing: "busy",
  promoted: "good",
  "rolled-back": "bad",
  aborted: "neutral",
  // the connection of the page
  connecting: "busy",
  live: "good",
  reconnecting: "warn",
  lost: "bad",
  incompatible: "bad",
};

/** A state in words, with a dot in the colour of its urgency. Colour never stands alone. */
export const StateBadge = ({ state, testId }: { state: string; testId?: string }) => (
  <span class="badge" data-tone={tones[state] ?? "neutral"} data-testid={testId} data-state={state}>
    {state}
  </span>
);

/** `27 alive · 2 suspect`: how many are in each state, most urgent last; states with none are left out. */
export function countStates(items: readonly { readonly state: string }[], order: readonly string[]): string {
  const counts = order.map((state) => ({
    state,
    count: items.filter((item) => item.state === state).length,
  }));
  return counts
    .filter(({ count }) => count > 0)
    .map(({ state, count }) => `${count} ${state}`)
    .join(" · ");
}
