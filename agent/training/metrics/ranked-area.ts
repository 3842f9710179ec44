/**
 * Area under the receiver operating characteristic: the chance that an example of 1 has a higher score than one of 0, where
 * equal scores count half. Exact, by ranks.
 *
 * @param scores f32
 * @param labels 0 or 1; examples of a negative label are left out
 * @returns undefined where one of the two classes has no example, or a score is no number
 * Cost: O(n log n). Source: Hanley & McNeil, "The meaning and use of the area under a ROC curve", 1982.
 */
export function rankedArea(scores: ArrayLike<number>, labels: ArrayLike<number>): number | undefined {
  // Two sorted arrays of numbers, as engines sort them many times faster than places by a comparison.
  const [ones, zeros] = [1, 0].map((wanted) =>
    Float32Array.from(scores)
      .filter((_, i) => labels[i] === wanted)
      .sort(),
  ) as [Float32Array, Float32Array];
  if ([ones.at(-1), zeros.at(-1)].some((last) => last === undefined || Number.isNaN(last))) return undefined;
  let wins = 0;
  let [below, notAbove] = [0, 0];
  for (const score of ones) {
    while (below < zeros.length && zeros[below]! < score) below++;
    while (notAbove < zeros.length && zeros[notAbove]! <= score) notAbove++;
    wins += (below + notAbove) / 2;
  }
  return wins / (ones.length * zeros.length);
}
