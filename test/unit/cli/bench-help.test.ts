import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const script = (path: string): string => fileURLToPath(new URL(`../../../scripts/${path}`, import.meta.url));
const run = (path: string, ...words: string[]) =>
  spawnSync(process.execPath, [script(path), ...words], { encoding: "utf8", timeout: 30_000 });

test.each([
  ["bench/ring.ts"],
  ["bench/engines.ts"],
  ["bench/topology.ts"],
  ["bench/unequal.ts"],
  ["ringfold.ts", "bench"],
  ["ringfold.ts", "bench", "ring"],
  ["ringfold.ts", "bench", "engines"],
])("%s %s: help is shown, and nothing is measured", (path, ...words) => {
  const { status, stdout } = run(path, ...words, "--help");
  expect(stdout).toMatch(/^Usage: /);
  expect(status).toBe(0);
});

test("an option that is none is refused as a mistake of the command line", () => {
  const { status, stderr } = run("bench/ring.ts", "--fast");
  expect(stderr).toContain("unknown option '--fast'");
  expect(status).toBe(64);
});
