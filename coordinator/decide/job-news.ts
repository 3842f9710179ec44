import { generationCount, type JobRecord } from "./job-record.ts";

/** What people are told of a decision about a job; nothing when it is a step in between. */
export function jobNews(
  before: JobRecord | undefined,
  record: JobRecord,
  nameOf: (peerId: string) => string,
): string[] {
  const known = before ? generationCount(before) : 0;
  const news = record.generations
    .filter(({ generation }) => generation > known)
    .map(({ generation, reason }) => `generation ${generation}: ${reason}`);
  const newest = record.generations.at(-1);
  const recovered = newest?.recoveryMs ?? null;
  if (recovered !== null && before?.generations.at(-1)?.recoveryMs === null)
    news.push(`first step ${recovered} ms after the interruption`);
  const told = before?.generations.find(({ generation }) => generation === newest?.generation);
  for (const { peerId, bytes, ms } of newest?.healed.slice(told?.healed.length ?? 0) ?? [])
    news.push(
      `${nameOf(peerId)} has healed: ${(bytes / 1e6).toFixed(1)} MB in ${Math.round(ms)} ms, while the others trained`,
    );
  if (record.skipped && JSON.stringify(record.skipped) !== JSON.stringify(before?.skipped))
    news.push(`an update was left out on every rank: ${record.skipped.message}`);
  if (record.state !== before?.state && record.state !== "running")
    news.push(`${record.state}: ${record.reason}`);
  if (before && record.priority !== before.priority)
    news.push(`priority ${record.priority}, was ${before.priority}`);
  if (record.version !== (before?.version ?? null)) news.push(`registers ${record.version}`);
  return news;
}
