import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { type ScriptSpec, scriptSpecSchema } from "../protocol/script-spec.ts";

/**
 * Reads a script as it travels with a job.
 * @throws RingfoldError FILE_NOT_FOUND | JOB_INVALID when it is no Python file, too large, or not UTF-8
 */
export async function readScript(path: string): Promise<Pick<ScriptSpec, "name" | "digest" | "source">> {
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const problem = cause.code === "ENOENT" ? "no such file" : (cause.code ?? "cannot be read");
    throw new RingfoldError("FILE_NOT_FOUND", `${path}: ${problem}`, { path }, { cause });
  });
  const refuse = (why: string) => new RingfoldError("JOB_INVALID", `${path}: ${why}`, { path });
  if (bytes.length > limits.scriptSourceBytes)
    throw refuse(`a script may have ${limits.scriptSourceBytes / 1024} KiB`);
  const name = basename(path);
  if (!scriptSpecSchema.shape.name.safeParse(name).success)
    throw refuse("a script is a file NAME.py, of letters, digits, dot, dash and underscore");
  try {
    const source = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { name, digest: createHash("sha256").update(bytes).digest("hex"), source };
  } catch {
    throw refuse("the script is not UTF-8 text");
  }
}
