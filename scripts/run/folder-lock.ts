import { closeSync, mkdirSync, openSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { RingfoldError } from "../../protocol/errors.ts";

/** Holds a data folder for this process. */
export interface FolderLock {
  release(): Promise<void>;
}

/** How long whoever holds the folder may take to answer that it does: it accepts before its own code is asked. */
const answerMs = 2_000;

/**
 * Takes a folder for this process alone, until `release` or until the process dies, however: two coordinators on one store would
 * lose each other's acknowledged decisions. A local socket in it is listened on; one that nobody answers on is what a
 * process left that was killed. (Node has no file locks, and a file with a process id lies once that id is given again.)
 * @throws RingfoldError CONFLICT when another process has it | STORE_FAILED when the folder cannot be written to
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const place = openPlace(folder);
  try {
    const server = (await listen(place.path)) ?? (await takeOver(place.path, folder));
    server.unref();
    return {
      release: async () => {
        await new Promise<void>((resolve) => server.close(() => resolve())); // which removes the socket
        place.close();
      },
    };
  } catch (cause) {
    place.close();
    if (cause instanceof RingfoldError) throw cause;
    throw new RingfoldError("STORE_FAILED", `cannot lock ${folder}`, { path: folder }, { cause });
  }
}

/** The path of a socket is at most about 100 bytes long; Linux has a short one for what is in an open folder. */
function openPlace(folder: string): { readonly path: string; close(): void } {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (process.platform === "win32")
    return { path: `\\\\.\\pipe\\ringfold${folder.replaceAll(/[\\/:]/g, "-")}`, close: () => {} };
  if (process.platform !== "linux") return { path: join(folder, "lock"), close: () => {} };
  const descriptor = openSync(folder, "r");
  return { path: `/proc/self/fd/${descriptor}/lock`, close: () => closeSync(descriptor) };
}

/** Undefined when the socket is there already. */
function listen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(undefined) : reject(error),
    );
    server.listen({ path }, () => resolve(server));
  });
}

async function takeOver(path: string, folder: string): Promise<Server> {
  if (!(await isAnswered(path))) {
    rmSync(path, { force: true });
    const server = await listen(path);
    if (server) return server;
  }
  const remedy = "End the other one first, or give --data a folder of its own.";
  throw new RingfoldError("CONFLICT", `another coordinator works on ${folder}`, { path: folder, remedy });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false)); // refused: a socket without a process
    socket.setTimeout(answerMs, () => end(true)); // it hangs, and lives
  });
}
