import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { restoredTerms } from "../../../coordinator/decide/restored.ts";
import { DecisionLog, recordedState } from "../../../coordinator/decision-log.ts";
import { openLmdbStore } from "../../../coordinator/store/lmdb-store.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { decisionOf, stateAfter } from "../../../scripts/crash-points/content.ts";
import { lockFolder } from "../../../scripts/run/folder-lock.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { runRingfold } from "./ringfold-process.ts";

vi.setConfig({ testTimeout: 60_000 });

/** A coordinator's data, in use: decisions go on. */
async function coordinatorData(): Promise<{ readonly path: string; decide(count: number): Promise<void> }> {
  const path = join(temporaryFolder(), "coordinator");
  const store = await openLmdbStore(join(path, "store"));
  onTestFinished(() => store.close());
  writeFileSync(join(path, "identity.key"), "identity");
  writeFileSync(join(path, "operator-token"), "token");
  const log = new DecisionLog({ store, clock: systemClock, log: silentLog, term: 1 });
  let number = 0;
  const decide = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const { decision, writes } = decisionOf(++number);
      await log.commit(decision, writes);
    }
  };
  return { path, decide };
}

async function stateIn(path: string): Promise<Map<string, unknown>> {
  const store = await openLmdbStore(join(path, "store"));
  const state = recordedState(store);
  await store.close();
  return state;
}

test("a copy of a running coordinator's data is of one moment, and comes back with identity and token", async () => {
  const data = await coordinatorData();
  await data.decide(30);
  const copy = join(temporaryFolder(), "copy");
  const going = data.decide(100);
  const backup = await runRingfold(["backup", "--data", data.path, "--to", copy, "--json"]);
  await going;
  expect(backup).toMatchObject({ exitCode: 0 });
  expect(JSON.parse(backup.stdout)).toEqual({
    folder: copy,
    jobs: 0,
    versions: 0,
    deployments: 0,
    members: 0,
  });
  const copied = await stateIn(copy);
  const newest = copied.get("counter/newest") as number;
  expect(newest).toBeGreaterThanOrEqual(30);
  expect(copied).toEqual(stateAfter(newest));

  const place = join(temporaryFolder(), "restored");
  const restored = await runRingfold(["restore", "--from", copy, "--data", place, "--json"]);
  expect(JSON.parse(restored.stdout)).toMatchObject({ folder: place, before: null });
  // Agents have heard of later terms than the backup's.
  expect(await stateIn(place)).toEqual(new Map([...copied, ["counter/term", restoredTerms]]));
  expect(readFileSync(join(place, "identity.key"), "utf8")).toBe("identity");
  expect(readFileSync(join(place, "operator-token"), "utf8")).toBe("token");
});

test("data that is there is not overwritten: refused, or with --force moved aside", async () => {
  const data = await coordinatorData();
  await data.decide(5);
  const copy = join(temporaryFolder(), "copy");
  await runRingfold(["backup", "--data", data.path, "--to", copy]);
  expect((await runRingfold(["backup", "--data", data.path, "--to", copy])).exitCode).toBe(65);
  await data.decide(5);
  const refused = await runRingfold(["restore", "--from", copy, "--data", data.path]);
  expect(refused).toMatchObject({ exitCode: 65, stderr: expect.stringContaining("--force") });
  const forced = await runRingfold(["restore", "--from", copy, "--data", data.path, "--force", "--json"]);
  const { before } = JSON.parse(forced.stdout) as { before: string };
  expect(await stateIn(data.path)).toEqual(new Map([...stateAfter(5), ["counter/term", restoredTerms]]));
  expect(existsSync(join(before, "store", "data.mdb"))).toBe(true);
});

test("nothing is put in the place of a folder that a coordinator works on, and two do not work on one", async () => {
  const data = await coordinatorData();
  await data.decide(5);
  const copy = join(temporaryFolder(), "copy");
  await runRingfold(["backup", "--data", data.path, "--to", copy]);
  const lock = await lockFolder(data.path);
  const refused = await runRingfold(["restore", "--from", copy, "--data", data.path, "--force"]);
  expect(refused).toMatchObject({ exitCode: 65, stderr: expect.stringContaining("another coordinator") });
  const second = ["coordinator", "--data", data.path, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
  expect(await runRingfold(second)).toMatchObject({ exitCode: 65 });
  expect(await stateIn(data.path)).toEqual(stateAfter(5));
  await lock.release();
  expect(await runRingfold(["restore", "--from", copy, "--data", data.path, "--force"])).toMatchObject({
    exitCode: 0,
  });
});

test("what is no backup, or not whole, is refused, and leaves nothing", async () => {
  const folder = temporaryFolder();
  const place = join(folder, "place");
  expect((await runRingfold(["restore", "--from", folder, "--data", place])).exitCode).toBe(66);
  const store = await openLmdbStore(join(folder, "store"));
  await store.write([{ key: "counter/job", value: Uint8Array.of(7) }]); // no decision tells of it
  await store.close();
  const refused = await runRingfold(["restore", "--from", folder, "--data", place, "--json"]);
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: "STORE_FAILED" } });
  expect(existsSync(place)).toBe(false);
});
