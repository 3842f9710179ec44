import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestSchema } from "../../../protocol/ids.ts";

/**
 * A file in an agent's data folder that says: somebody prepares a data set into this agent's store. Chunks that no manifest names yet
 * are then not to be freed. The mark of whoever was killed stays, and grows old.
 */
export interface PreparationMark {
  /** From here on the manifest of this digest may be in the store, whether it is registered or not. */
  describes(manifest: string): Promise<void>;
  /** What was prepared is registered, or nothing of it is left. */
  remove(): Promise<void>;
  /** Ends the renewal; the mark stays. */
  leave(): void;
}

/** A preparation is alive where its mark was renewed within this time; what an older one has left is freed. */
export const markLifeMs = 24 * 3_600_000;
/** A read of a large source may take hours without a chunk. */
const renewalMs = 600_000;

const folderOf = (agentFolder: string): string => join(agentFolder, "preparing");

/** Marks that a preparation begins. @throws the error of the file system */
export async function markPreparation(agentFolder: string): Promise<PreparationMark> {
  const folder = folderOf(agentFolder);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, randomUUID());
  await writeFile(path, "");
  const renewal = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {}); // a disk that fails is told of by the store
  }, renewalMs);
  renewal.unref();
  const leave = () => clearInterval(renewal);
  return {
    describes: (manifest) => writeFile(path, manifest),
    remove: async () => {
      leave();
      await rm(path, { force: true });
    },
    leave,
  };
}

/** A mark as another process finds it. */
export interface FoundMark {
  readonly path: string;
  readonly isAlive: boolean;
  /** The manifest that may be in the store. */
  readonly manifest: string | undefined;
}

/** All marks in an agent's folder. @param nowMs of the wall clock; a mark from the future is as old as one from the past */
export async function findMarks(agentFolder: string, nowMs: number): Promise<FoundMark[]> {
  const folder = folderOf(agentFolder);
  const names = await readdir(folder).catch(() => [] as string[]);
  const marks = names.map(async (name): Promise<FoundMark[]> => {
    const path = join(folder, name);
    try {
      const [{ mtimeMs }, text] = [await stat(path), await readFile(path, "utf8")];
      const manifest = digestSchema.safeParse(text).data;
      return [{ path, isAlive: Math.abs(nowMs - mtimeMs) < markLifeMs, manifest }];
    } catch {
      return []; // removed meanwhile
    }
  });
  return (await Promise.all(marks)).flat();
}
