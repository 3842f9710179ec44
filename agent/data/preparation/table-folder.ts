import { mkdtemp, readdir, rm } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";

/** A folder tells whose it is. Containers may share a folder of temporary files, and number their processes each for itself: hence the host. */
const prefix = `ringfold-tables-${hostname()}-`;

/** A temporary folder for the files of one preparation. Those of processes that were killed go first. */
export async function openTableFolder(): Promise<string> {
  await freeTableFolders();
  return mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
}

/**
 * Removes the folders that processes of this host have left which are no more. A number that was given again keeps a folder
 * until that process has ended, too.
 */
export async function freeTableFolders(): Promise<void> {
  const names = await readdir(tmpdir()).catch(() => [] as string[]);
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number.parseInt(name.slice(prefix.length), 10);
    if (Number.isSafeInteger(pid) && pid > 0 && !isRunning(pid))
      await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {}); // another user's
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
