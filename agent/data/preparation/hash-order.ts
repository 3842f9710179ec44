import { createHash } from "node:crypto";

/** 32 bits of an MD5 (used as a hash, not as a secret) over its parts: what tables are split and ordered by, too. */
function hash32(...parts: readonly (string | number)[]): number {
  return createHash("md5").update(parts.join("\x1f")).digest().readUInt32BE(0);
}

/**
 * Cuts things that are known by a key into training and test, each in the order of another hash.
 * @returns indices into `keys`
 */
export function hashSplit(
  keys: readonly (string | number)[],
  { testShare, seed }: { readonly testShare: number; readonly seed: number },
): { train: Uint32Array; test: Uint32Array } {
  const sides = { train: [] as number[], test: [] as number[] };
  const bound = Math.round(testShare * 2 ** 32);
  for (const [index, key] of keys.entries()) {
    sides[hash32(seed, key) < bound ? "test" : "train"].push(index);
  }
  return { train: hashOrder(sides.train, keys, seed), test: hashOrder(sides.test, keys, seed) };
}

export function hashOrder(
  indices: readonly number[],
  keys: readonly (string | number)[],
  seed: number,
): Uint32Array {
  const places = new Map(indices.map((index) => [index, hash32(`place ${seed}`, keys[index]!)]));
  return Uint32Array.from(indices).sort((a, b) => places.get(a)! - places.get(b)! || a - b);
}
