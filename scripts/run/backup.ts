import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isOver } from "../../coordinator/decide/job-record.ts";
import { asRestored, restoredTerms } from "../../coordinator/decide/restored.ts";
import { DecisionLog, recordedState, replayLog } from "../../coordinator/decision-log.ts";
import { collections } from "../../coordinator/state.ts";
import { copyLmdbStore, openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { type Log, systemClock } from "../../protocol/ports.ts";
import { lockFolder } from "./folder-lock.ts";
import { identityPath, tokenPath } from "./shared-secrets.ts";

/** What a backup holds, as it was checked. */
export interface BackupSummary {
  readonly folder: string;
  readonly jobs: number;
  readonly versions: number;
  readonly deployments: number;
  readonly members: number;
}

export const storePath = (folder: string): string => join(folder, "store");

/**
 * Copies what a coordinator keeps (its store as of one moment, its identity and operator token) into a new folder, also
 * while it runs. The folder appears whole or not at all.
 * @throws RingfoldError NOT_FOUND | CONFLICT when the folder is there already | STORE_FAILED | STORE_NEWER
 */
export async function backUp(dataPath: string, to: string): Promise<BackupSummary> {
  return appearing(to, (folder) => copyData(dataPath, folder));
}

/**
 * Puts a backup in the place of a coordinator's data. What was there is moved aside, never deleted. The cluster has gone on since
 * the backup: its agents follow the restored coordinator, and jobs that were not over go on from the most advanced of them.
 * @returns where to, as `before`; null when nothing was there
 * @throws RingfoldError NOT_FOUND | CONFLICT without `force` when data is there, and when a coordinator works on it |
 *   STORE_FAILED | STORE_NEWER
 */
export async function restore(
  from: string,
  dataPath: string,
  { force, nowMs, log }: { readonly force: boolean; readonly nowMs: number; readonly log: Log },
): Promise<BackupSummary & { readonly before: string | null }> {
  const isThere = existsSync(dataPath);
  if (isThere && !force) {
    const remedy = "End its coordinator, and give --force: what is there is moved aside.";
    throw new RingfoldError("CONFLICT", `${dataPath} holds a coordinator's data`, { path: dataPath, remedy });
  }
  if (isThere) await (await lockFolder(dataPath)).release(); // nobody works on it
  const before = isThere ? `${dataPath}.before-${new Date(nowMs).toISOString().replaceAll(":", "")}` : null;
  const summary = await appearing(
    dataPath,
    async (folder) => {
      const checked = await copyData(from, folder);
      await goOnFromBackup(storePath(folder), log);
      if (before) await rename(dataPath, before);
      return checked;
    },
    false,
  );
  return { ...summary, before };
}

/** Fills a folder beside `path`, and gives it that name at the end. @throws RingfoldError CONFLICT when it is there already */
export async function appearing(
  path: string,
  fill: (folder: string) => Promise<Omit<BackupSummary, "folder">>,
  isThere = existsSync(path),
): Promise<BackupSummary> {
  if (isThere) throw new RingfoldError("CONFLICT", `${path} is there already`, { path });
  await mkdir(dirname(path), { recursive: true });
  const folder = await mkdtemp(`${path}.new-`);
  try {
    const summary = await fill(folder);
    await rename(folder, path);
    return { folder: path, ...summary };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function copyData(from: string, to: string): Promise<Omit<BackupSummary, "folder">> {
  const checked = await copyStore(from, to);
  for (const pathOf of [identityPath, tokenPath])
    if (existsSync(pathOf(from))) await copyFile(pathOf(from), pathOf(to));
  return checked;
}

/** @throws RingfoldError NOT_FOUND | STORE_FAILED | STORE_NEWER */
export async function copyStore(from: string, to: string): Promise<Omit<BackupSummary, "folder">> {
  if (!existsSync(join(storePath(from), "data.mdb")))
    throw new RingfoldError("NOT_FOUND", `no data of a coordinator in ${from}`, { path: from });
  await copyLmdbStore(storePath(from), storePath(to));
  return checkCopy(storePath(to));
}

/** A copy that is not whole is no copy: reads every record, and replays the log. @throws RingfoldError STORE_FAILED | STORE_NEWER */
export async function checkCopy(path: string): Promise<Omit<BackupSummary, "folder">> {
  const store = await openLmdbStore(path);
  try {
    if (!isDeepStrictEqual(replayLog(store), recordedState(store)))
      throw new RingfoldError(
        "STORE_FAILED",
        `the log in ${path} comes to another state than the one stored`,
      );
    return {
      jobs: collections.jobs.readAll(store).length,
      versions: collections.versions.readAll(store).length,
      deployments: collections.deployments.readAll(store).length,
      members: collections.members.readAll(store).length,
    };
  } finally {
    await store.close();
  }
}

/** Makes a copy the beginning of what comes after it. */
export async function goOnFromBackup(path: string, log: Log): Promise<void> {
  const store = await openLmdbStore(path);
  try {
    const term = (collections.counters.read(store, "term") ?? 0) + restoredTerms;
    const open = collections.jobs.readAll(store).filter((job) => !isOver(job));
    const decisions = new DecisionLog({ store, clock: systemClock, log, term });
    await decisions.commit(
      {
        ...{ who: { kind: "operator" }, subject: "coordinator", isNews: true },
        event: { kind: "coordinator-restored" },
        reason: `restored from a backup; terms go on from ${term}`,
      },
      [
        collections.counters.put("term", term),
        ...open.map((job) => collections.jobs.put(job.id, asRestored(job))),
      ],
    );
  } finally {
    await store.close();
  }
}
