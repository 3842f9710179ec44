/** Sizes in bytes as people write and read them: 8GB is 8·10^9 bytes, 8GiB is 8·2^30. */

const decimal = { TB: 1e12, GB: 1e9, MB: 1e6 } as const;
const binary = { TiB: 2 ** 40, GiB: 2 ** 30, MiB: 2 ** 20 } as const;
const units: Readonly<Record<string, number>> = { ...decimal, ...binary };

/**
 * Strict: a plain `8G` is 10^9 to Kubernetes and 2^30 to Slurm, and `8Gb` are bits.
 * @returns bytes; undefined where it is no such size
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,6}(?:\.\d{1,3})?) ?([TGM]i?B)$/.exec(text);
  const unit = units[match?.[2] ?? ""];
  return unit === undefined ? undefined : Math.round(Number(match![1]) * unit);
}

/** `8 GB`, `512 MiB`: as it was written where that can be told, else rounded (`25.8 GB`). */
export function sizeText(bytes: number): string {
  for (const [family, fractions] of [
    [decimal, 1_000],
    [binary, 4],
  ] as const)
    for (const [name, unit] of Object.entries(family))
      if (bytes >= unit && bytes < 1_024 * unit && bytes % (unit / fractions) === 0)
        return `${Number((bytes / unit).toFixed(3))} ${name}`;
  const [name, unit] = Object.entries(decimal).find(([, unit]) => bytes >= unit) ?? ["MB", decimal.MB];
  return `${(bytes / unit).toFixed(1)} ${name}`;
}
