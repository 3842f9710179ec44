import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writePrivateFile } from "../network/identity.ts";

/** Which Python runs jobs' scripts on this machine: said by whoever started the agent, kept for `ringfold doctor`. */

const fileName = "python";

/** @param python undefined where no script may run */
export async function saveChosenPython(scriptsPath: string, python: string | undefined): Promise<void> {
  if (python === undefined) return rm(join(scriptsPath, fileName), { force: true });
  await mkdir(scriptsPath, { recursive: true, mode: 0o700 });
  await writePrivateFile(join(scriptsPath, fileName), `${python}\n`);
}

/** Of the agent with this folder, as it was started last; undefined where it runs no scripts, or never ran. */
export async function readChosenPython(scriptsPath: string): Promise<string | undefined> {
  const text = await readFile(join(scriptsPath, fileName), "utf8").catch(() => "");
  return text.trim() || undefined;
}
