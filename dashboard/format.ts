/** Numbers as the page shows them. One language, so that a screenshot and a test read the same everywhere. */

/** Stands where a number is not known. */
export const unknown = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const formatCount = (value: number | null): string => (value === null ? unknown : whole.format(value));

/** 0.0421, 1.234, 12.34, 1,234: four digits that matter. */
export function formatLoss(value: number | null): string {
  if (value === null) return unknown;
  const size = Math.abs(value);
  if (size >= 1_000) return whole.format(value);
  if (size !== 0 && size < 0.001) return value.toExponential(2);
  return value.toFixed(size >= 10 ? 2 : size >= 1 ? 3 : 4);
}

/** @param share 0-1 */
export const formatPercent = (share: number | null, fractionDigits = 2): string =>
  share === null ? unknown : `${(share * 100).toFixed(fractionDigits)}%`;

/** Samples a second, GFLOP/s: large ones whole, small ones with a digit. */
export const formatRate = (value: number | null): string =>
  value === null ? unknown : value >= 100 ? whole.format(value) : value.toFixed(1);

const byteUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1_023.95 && unit < byteUnits.length - 1) {
    value /= 1_024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${byteUnits[unit]}`;
}

/** The two largest units: 840 ms, 4.2 s, 3 min 20 s, 5 h 04 min, 2 d 03 h. */
export function formatDuration(durationMs: number | null): string {
  if (durationMs === null || !Number.isFinite(durationMs)) return unknown;
  const ms = Math.max(0, durationMs);
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const pair = (large: number, largeUnit: string, small: number, smallUnit: string) =>
    `${large} ${largeUnit} ${String(small).padStart(2, "0")} ${smallUnit}`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return pair(minutes, "min", seconds % 60, "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return pair(hours, "h", minutes % 60, "min");
  return pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** How long ago, coarsely: now, 12 s ago, 3 min ago, 5 h ago. Clocks may differ: the future is now. */
export function formatAge(ageMs: number): string {
  const seconds = Math.floor(ageMs / 1_000);
  if (seconds < 2) return "now";
  if (seconds < 100) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ago` : `${Math.floor(hours / 24)} d ago`;
}

/** Local time of day, 24 hours: 14:03:09. */
export const formatTime = (atMs: number): string => new Date(atMs).toLocaleTimeString("en-GB");

/** Local date and time, as a tooltip. */
export const formatMoment = (atMs: number): string => new Date(atMs).toLocaleString("en-GB");

/** Enough of a digest to tell two apart at a glance; the whole one belongs in a title. */
export const shortDigest = (digest: string): string => digest.slice(0, 12);

/** Keeps both ends of a long name: machines of one rack differ in their last characters. */
export function clipMiddle(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  const tail = Math.ceil((lengthMax - 1) / 2);
  return `${text.slice(0, lengthMax - 1 - tail)}…${text.slice(-tail)}`;
}
