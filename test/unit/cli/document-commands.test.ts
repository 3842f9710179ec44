import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { serveBench } from "./served-bench.ts";

vi.setConfig({ testTimeout: 60_000 });

let served: Awaited<ReturnType<typeof serveBench>>;
let folder: string;

beforeEach(async () => {
  served = await serveBench();
  folder = temporaryFolder();
});
afterEach(() => served.close());

const ringfold = (...words: string[]) => served.ringfold(...words);

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const job = "name: digits\nmodel: { architecture: cnn }\ndata: { source: mnist }\n";

test("a configuration is registered, compared, named by an alias and trained by it", async () => {
  const path = write("job.yaml", job);
  expect((await ringfold("configs", "add", path)).stdout).toMatch(/^config +digits@1\n/);
  expect((await ringfold("configs", "add", write("more.yaml", `${job}batchSize: 8\n`))).exitCode).toBe(0);
  expect((await ringfold("configs", "diff", "digits@1", "digits@2")).stdout.split("\n")[1]).toMatch(
    /^batchSize +64 +8$/,
  );
  await ringfold("configs", "alias", "digits@stable", "1", "--create");
  expect((await ringfold("configs", "alias", "digits@stable", "2", "--from", "2")).exitCode).toBe(65);
  const trained = await ringfold("train", "digits@stable", "--detach", "--json");
  expect(JSON.parse(trained.stdout)).toMatchObject({ id: "job-1", config: "digits@1" });
  const urgent = await ringfold("train", "digits@stable", "--priority", "9", "--detach", "--json");
  expect(JSON.parse(urgent.stdout)).toMatchObject({ config: "digits@3", priority: 9 });
  expect((await ringfold("configs")).stdout.split("\n").map((line) => line.split(/ +/)[0])).toEqual([
    ...["CONFIG", "digits@1", "digits@2", "digits@3", ""],
  ]);
  expect(await ringfold("configs", "remove", "digits@1")).toMatchObject({
    exitCode: 65,
    stderr: expect.stringContaining("digits@1 stays"),
  });
  expect((await ringfold("train", "digits@none")).exitCode).toBe(66);
});

test("a file goes before what is registered under its name; a sweep file is a configuration too", async () => {
  const search = "search: { method: grid, space: { seed: { values: [1, 2] } } }\n";
  expect(
    (await ringfold("configs", "add", write("sweep.yaml", `${job}${search}`), "--name", "seeds")).exitCode,
  ).toBe(0);
  const swept = await ringfold("sweep", "seeds@1", "--json");
  expect(JSON.parse(swept.stdout)).toMatchObject({ id: "sweep-1", config: "seeds@1", trialCount: 2 });
  expect((await ringfold("train", "seeds@1")).exitCode).toBe(65); // it is a sweep's
  const file = write("seeds@1", `${job}epochs: 3\n`);
  const trained = await ringfold("train", file, "--detach", "--json");
  expect(JSON.parse(trained.stdout)).toMatchObject({ config: "digits@1", spec: { epochs: 3 } });
});

test("a pipeline is registered as the file says, and shown as a file", async () => {
  const path = write("Credit Risk.yaml", "kind: table\nsteps:\n  - do: missing\n    with: median\n");
  const added = await ringfold("pipelines", "add", path, "--target", "repaid", "--json");
  expect(JSON.parse(added.stdout)).toMatchObject({
    ...{ kind: "pipeline", name: "credit-risk", version: 1 },
    content: { kind: "table", target: { column: "repaid" } },
  });
  const shown = await ringfold("pipelines", "show", "credit-risk");
  expect(shown.stdout).toContain("steps:\n  - do: missing\n    with: median\n");
  expect((await ringfold("pipelines", "add", write("bad.yaml", "kind: table\n"))).exitCode).toBe(65);
  expect((await ringfold("pipelines", "remove", "credit-risk@1")).exitCode).toBe(0);
  expect((await ringfold("pipelines")).stdout).toBe("no pipelines yet\n");
});
