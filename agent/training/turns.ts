/** So long a rank that waits for nobody may train without looking up: a turn of the event loop takes a few percent of a small step. */
const everyMs = 4;

/** `turn`, where the last one is long enough ago. */
export function seldom(turn: () => Promise<void>, nowMs: () => number): () => Promise<void> {
  let lastMs = Number.NEGATIVE_INFINITY;
  return async () => {
    if (nowMs() - lastMs < everyMs) return;
    await turn();
    lastMs = nowMs();
  };
}
