import { enableCompileCache, flushCompileCache } from "node:module";
import { fileURLToPath } from "node:url";

const directory = fileURLToPath(new URL("../../node_modules/.cache/ringfold-compile", import.meta.url));

/**
 * Keeps compiled JavaScript between runs, for this process and those that it starts: an agent that comes back takes a
 * third less processor time from those who train beside it. Where the folder cannot be written nothing is kept.
 * NODE_COMPILE_CACHE names another folder; NODE_DISABLE_COMPILE_CACHE=1 turns it off.
 */
export function keepCompiledCode(): void {
  process.env.NODE_COMPILE_CACHE ??= directory;
  enableCompileCache(process.env.NODE_COMPILE_CACHE);
}

/** An agent is killed more often than it ends: what it has compiled by now is written by now. */
export const saveCompiledCode = (): void => flushCompileCache();
