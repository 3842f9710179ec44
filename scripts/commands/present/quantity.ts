/** Quantities as a person reads them. Programs read `--json`, where nothing is rounded. */

const steps = [
  { factor: 1e9, suffix: "G" },
  { factor: 1e6, suffix: "M" },
  { factor: 1e3, suffix: "k" },
] as const;

/** 950, 12.3k, 1.20M: three digits. */
export function formatCount(value: number): string {
  const step = steps.find(({ factor }) => value >= factor);
  if (!step) return Number.isInteger(value) ? String(value) : value.toPrecision(3);
  const scaled = value / step.factor;
  return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)}${step.suffix}`;
}

export const formatBytes = (bytes: number): string => `${formatCount(Math.round(bytes))}B`;

/** @param share 0-1 */
export const formatPercent = (share: number, digits = 1): string => `${(share * 100).toFixed(digits)}%`;

/** Of a model's metric, whatever its scale: 0.8712, 12.3. */
export const formatMetric = (value: number): string => String(Number(value.toPrecision(4)));

export const formatLoss = (loss: number): string => loss.toFixed(4);

/** 45s, 3m05s, 2h07m, 4d03h */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1_000));
  const pad = (value: number): string => String(value).padStart(2, "0");
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${pad(seconds % 60)}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h${pad(Math.floor(seconds / 60) % 60)}m`;
  return `${Math.floor(seconds / 86_400)}d${pad(Math.floor(seconds / 3_600) % 24)}h`;
}
