import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ChunkPatrol } from "../../agent/artefact/chunk-patrol.ts";
import { openArtefactStore, sha256 } from "../../agent/artefact/store.ts";
import { limits } from "../../protocol/limits.ts";
import { damageFile } from "../fixtures/damage.ts";
import { loansCsv } from "../fixtures/loans.ts";
import { silentLog } from "../fixtures/network.ts";
import { prepareSource } from "../fixtures/prepared-data.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { FakeClock } from "../simulation/fake-clock.ts";

test("a damaged chunk of a held data set is brought anew, again and again until somebody has it", async () => {
  const folder = temporaryFolder();
  await writeFile(join(folder, "loans.csv"), loansCsv(500));
  const pipeline = { kind: "table", target: { column: "repaid" }, ignore: ["Income (k)"] };
  const prepared = await prepareSource(join(folder, "loans.csv"), pipeline);
  const path = join(folder, "artefacts");
  const before = openArtefactStore(path);
  for (const bytes of prepared.chunks.values()) await before.put(bytes, { listed: false });
  await before.put(new Uint8Array(100)); // something else
  const manifest = await before.put(prepared.bytes);
  await before.close();
  const [chunk, bytes] = [...prepared.chunks][0]!;
  damageFile(join(path, "data.mdb"), bytes.subarray(64, 256));

  const store = openArtefactStore(path);
  onTestFinished(() => store.close());
  const clock = new FakeClock();
  const asked: string[][] = [];
  let isThere = false;
  const fetchPart = async (...[of, digest]: [string, string, AbortSignal]) => {
    asked.push([of, digest]);
    if (!isThere) throw new Error("no live peer holds it");
    await store.remove(digest);
    await store.put(bytes, { listed: false });
  };
  const patrol = new ChunkPatrol({ store, fetchPart, clock, log: silentLog });
  patrol.start();
  await clock.advance(2 * limits.patrolPauseMs);
  expect(asked).toEqual([[manifest, chunk]]);
  isThere = true;
  await clock.advance(limits.patrolRetryMs + 2 * limits.patrolPauseMs);
  await expect.poll(() => sha256(store.get(chunk))).toBe(chunk);
  expect(asked).toHaveLength(2);
  await clock.advance(limits.patrolIntervalMs - limits.patrolRetryMs);
  expect(asked).toHaveLength(2); // all is well
  await patrol.close();
  expect(clock.pendingTimers).toBe(0);
});
