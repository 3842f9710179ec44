import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type ArtefactStore, openArtefactStore } from "../../../agent/artefact/store.ts";
import { readManifest } from "../../../agent/artefact/stored-manifest.ts";
import { loansCsv } from "../../fixtures/loans.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold } from "./ringfold-process.ts";

/** `ringfold data add` of a table into the store of an agent that is not running, and what is there afterwards. */
async function add(answer: { status: number; body: object } | "cut", target = "repaid") {
  await using server = await startCoordinatorServer();
  server.routes.set("GET /api/datasets", () => ({ body: [] }));
  server.routes.set("POST /api/datasets", () => answer);
  const folder = temporaryFolder();
  writeFileSync(join(folder, "loans.csv"), loansCsv(300));
  const pipeline = `kind: table\ntarget: { column: ${target} }\nignore: [Income (k)]\n`;
  writeFileSync(join(folder, "pipeline.yaml"), pipeline);
  await openArtefactStore(join(folder, "artefacts")).close();
  const outcome = await runRingfold(
    [
      "data",
      "add",
      join(folder, "loans.csv"),
      "--pipeline",
      join(folder, "pipeline.yaml"),
      "--agent",
      folder,
    ],
    { env: { RINGFOLD_COORDINATOR: server.url, RINGFOLD_OPERATOR_TOKEN: "token" } },
  );
  const marks = readdirSync(join(folder, "preparing"));
  const texts = marks.map((name) => readFileSync(join(folder, "preparing", name), "utf8"));
  return { ...outcome, folder, marks: texts };
}

async function withStore<T>(folder: string, look: (store: ArtefactStore) => T): Promise<T> {
  const store = openArtefactStore(join(folder, "artefacts"));
  try {
    return look(store);
  } finally {
    await store.close();
  }
}

test.each([
  ["is cut", "cut"],
  ["is a refusal", { status: 503, body: { code: "COORDINATOR_UNREACHABLE", detail: "it ends" } }],
] as const)(
  "where the coordinator's answer %s, nothing is taken from under a data set that may be registered",
  async (_what, answer) => {
    const { exitCode, stderr, folder, marks } = await add(answer);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("the same command goes on");
    await withStore(folder, (store) => {
      const [digest] = store.list();
      expect(marks).toEqual([digest]); // the agent asks the coordinator in a day
      const { train, test: heldOut } = readManifest(store, digest!)!;
      for (const chunk of [...train.chunks, ...heldOut.chunks]) expect(store.stat(chunk)).toBeGreaterThan(0);
    });
  },
  60_000,
);

test("a source that cannot become a data set leaves nothing behind", async () => {
  const { exitCode, folder, marks } = await add("cut", "nobody");
  expect(exitCode).toBe(65);
  expect(marks).toEqual([]);
  await withStore(folder, (store) => expect([store.list(), store.unlisted()]).toEqual([[], []]));
}, 60_000);
