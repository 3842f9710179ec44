import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { recordedState, replayLog } from "../../coordinator/decision-log.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { stateAfter } from "../../scripts/crash-points/content.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";

const program = fileURLToPath(new URL("../../scripts/crash-points/decider-process.ts", import.meta.url));
const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

/** A file may not grow past this: to the process the disk is full. */
const bytesMax = 200_000;

describe.skipIf(!hasPrlimit)("a disk that is full", () => {
  test("is named, loses nothing that was acknowledged, and when there is room again all goes on", async () => {
    const path = join(temporaryFolder(), "store");
    const { stdout } = spawnSync("prlimit", [`--fsize=${bytesMax}`, process.execPath, program, path], {
      encoding: "utf8",
      timeout: 50_000,
    });
    const said = stdout.trimEnd().split("\n");
    expect(said.at(-1)).toBe("STORE_FAILED");
    const acknowledged = Number(said.at(-2));
    expect(acknowledged).toBeGreaterThan(3);
    const store = await openLmdbStore(path);
    try {
      const state = recordedState(store);
      expect(state.get("counter/newest")).toBe(acknowledged);
      expect(state).toEqual(stateAfter(acknowledged));
      expect(isDeepStrictEqual(replayLog(store), state)).toBe(true);
      await store.write([{ key: "there is", value: new Uint8Array(100_000) }]);
    } finally {
      await store.close();
    }
  });
});
