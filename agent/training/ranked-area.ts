/**
 * Area under the receiver operating characteristic: the chance that an example of 1 has a higher score than one of 0, where
 * equal scores count half. Exact, by ranks.
 *
 * @param labels 0 or 1; examples of a negative label are left out
 * @returns undefined where one of the two classes has no example
 * Cost: O(n log n). Source: Hanley & McNeil, "The meaning and use of the area under a ROC curve", 1982.
 */
export function rankedArea(scores: ArrayLike<number>, labels: ArrayLike<number>): number | undefined {
  const order = Array.from(labels, (label, i) => (label >= 0 ? i : -1)).filter((i) => i >= 0);
  order.sort((a, b) => scores[a]! - scores[b]!);
  let rankSum = 0;
  let ones = 0;
  for (let start = 0, end = 0; start < order.length; start = end) {
    let onesOfScore = 0;
    for (; end < order.length && scores[order[end]!] === scores[order[start]!]; end++) {
      if (labels[order[end]!] === 1) onesOfScore++;
    }
    // Ranks count from 1: those of equal scores are all their mean.
    rankSum += (onesOfScore * (start + 1 + end)) / 2;
    ones += onesOfScore;
  }
  const zeros = order.length - ones;
  if (ones === 0 || zeros === 0) return undefined;
  return (rankSum - (ones * (ones + 1)) / 2) / (ones * zeros);
}
