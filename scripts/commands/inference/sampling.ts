import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

export interface SamplingOptions {
  /** 0 takes the likeliest always; 1 samples by the model's chances; above, more evenly. */
  readonly temperature: number;
  /** Only among so many of the likeliest. */
  readonly topK: number;
  readonly seed: number;
}

/**
 * Draws tokens from chances; the same seed draws the same ones. Padding, token 0, is never drawn.
 * Source: Holtzman et al., "The curious case of neural text degeneration", 2020, section 3, for temperature and top-k.
 */
export function tokenSampler({
  temperature,
  topK,
  seed,
}: SamplingOptions): (chances: ArrayLike<number>) => number {
  const generator = xoroshiro128plus(seed);
  return (chances) => {
    const order = Array.from(chances, (_, token) => token).slice(1);
    order.sort((a, b) => chances[b]! - chances[a]! || a - b);
    const likeliest = order[0]!;
    if (temperature === 0) return likeliest;
    const kept = order.slice(0, topK);
    // Relative to the likeliest, so that nothing underflows at low temperatures.
    const weights = kept.map((token) => (chances[token]! / chances[likeliest]!) ** (1 / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let left = ((generator.next() >>> 0) / 2 ** 32) * total;
    for (const [i, weight] of weights.entries()) {
      left -= weight;
      if (left < 0) return kept[i]!;
    }
    return likeliest;
  };
}
