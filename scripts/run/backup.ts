import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { recordedState, replayLog } from "../../coordinator/decision-log.ts";
import { collections } from "../../coordinator/state.ts";
import { copyLmdbStore, openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { identityPath, tokenPath } from "./shared-secrets.ts";

/** What a backup holds, as it was checked. */
export interface BackupSummary {
  readonly folder: string;
  readonly jobs: number;
  readonly versions: number;
  readonly deployments: number;
  readonly members: number;
}

const storePath = (folder: string): string => join(folder, "store");

/**
 * Copies what a coordinator keeps (its store as of one moment, its identity and operator token) into a new folder, also
 * while it runs. The folder appears whole or not at all.
 * @throws RingfoldError NOT_FOUND | CONFLICT when the folder is there already | STORE_FAILED | STORE_NEWER
 */
export async function backUp(dataPath: string, to: string): Promise<BackupSummary> {
  if (!existsSync(join(storePath(dataPath), "data.mdb")))
    throw new RingfoldError("NOT_FOUND", `no coordinator has its data in ${dataPath}`, { path: dataPath });
  if (existsSync(to)) throw new RingfoldError("CONFLICT", `${to} is there already`, { path: to });
  return appearing(to, (folder) => copyData(dataPath, folder));
}

/**
 * Puts a backup in the place of a coordinator's data. What was there is moved aside, never deleted.
 * @returns where to, as `before`; null when nothing was there
 * @throws RingfoldError NOT_FOUND | CONFLICT without `force` when data is there | STORE_FAILED | STORE_NEWER
 */
export async function restore(
  from: string,
  dataPath: string,
  { force, nowMs }: { readonly force: boolean; readonly nowMs: number },
): Promise<BackupSummary & { readonly before: string | null }> {
  if (!existsSync(join(storePath(from), "data.mdb")))
    throw new RingfoldError("NOT_FOUND", `${from} is not a backup of a coordinator`, { path: from });
  const isThere = existsSync(dataPath);
  if (isThere && !force) {
    const remedy = "End its coordinator, and give --force: what is there is moved aside.";
    throw new RingfoldError("CONFLICT", `${dataPath} holds a coordinator's data`, { path: dataPath, remedy });
  }
  const before = isThere ? `${dataPath}.before-${new Date(nowMs).toISOString().replaceAll(":", "")}` : null;
  const summary = await appearing(dataPath, async (folder) => {
    const checked = await copyData(from, folder);
    if (before) await rename(dataPath, before);
    return checked;
  });
  return { ...summary, before };
}

/** Fills a folder beside `path`, and gives it that name at the end. */
async function appearing(
  path: string,
  fill: (folder: string) => Promise<Omit<BackupSummary, "folder">>,
): Promise<BackupSummary> {
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
  await copyLmdbStore(storePath(from), storePath(to));
  for (const pathOf of [identityPath, tokenPath])
    if (existsSync(pathOf(from))) await copyFile(pathOf(from), pathOf(to));
  return check(storePath(to));
}

/** A copy that is not whole is no copy: reads every record, and replays the log. */
async function check(path: string): Promise<Omit<BackupSummary, "folder">> {
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
