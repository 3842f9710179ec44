import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import packageJson from "../../../package.json" with { type: "json" };
import { smallHeapOptions } from "../../../scripts/run/small-heap.ts";
import { runRingfold } from "./ringfold-process.ts";

vi.setConfig({ testTimeout: 30_000 });

const launcher = new URL("../../../scripts/ringfold", import.meta.url).pathname;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-launcher-"));
  await mkdir(join(folder, "project", "scripts"), { recursive: true });
  await copyFile(launcher, join(folder, "project", "scripts", "ringfold"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A folder with a `node` that says its version and, when started, what it was started with. */
async function nodeOfVersion(version: string): Promise<string> {
  const bin = join(folder, `node-${version}`);
  await mkdir(bin, { recursive: true });
  const script = `#!/bin/sh\nif [ "$1" = --version ]; then echo v${version}; else echo "$*"; fi\n`;
  await writeFile(join(bin, "node"), script);
  await chmod(join(bin, "node"), 0o755);
  return bin;
}

/** The launcher in a project without a Node of its own. */
const runWithNode = async (version: string, ...userArguments: string[]) =>
  runRingfold(userArguments, {
    launcher: join(folder, "project", "scripts", "ringfold"),
    env: { PATH: `${await nodeOfVersion(version)}:/usr/bin:/bin` },
  });

test("starts the project's own Node, through relative and absolute symlinks, whatever stands on the path", async () => {
  const old = await nodeOfVersion("20.20.2");
  await symlink(launcher, join(folder, "absolute"));
  await symlink("absolute", join(folder, "relative"));
  const { exitCode, stdout, stderr } = await runRingfold(["--version"], {
    launcher: join(folder, "relative"),
    env: { PATH: `${old}:/usr/bin:/bin` },
  });
  expect({ exitCode, stdout, stderr }).toEqual({
    exitCode: 0,
    stdout: `${packageJson.version}\n`,
    stderr: "",
  });
});

test.each(["18.0.0", "20.20.2", "22.11.0"])("refuses Node %s in one sentence", async (version) => {
  const { exitCode, stdout, stderr } = await runWithNode(version, "jobs");
  expect(exitCode).toBe(78);
  expect(stdout).toBe("");
  expect(stderr).toMatch(new RegExp(`^ringfold needs Node 22\\.12 or newer, and found ${version} at .*\\n$`));
});

test.each([
  ["22.12.0", true],
  ["22.17.1", true],
  ["22.18.0", false],
  ["23.5.0", true],
  ["23.6.0", false],
  ["24.0.0", false],
])("Node %s is asked to strip types: %s", async (version, asked) => {
  const { exitCode, stdout } = await runWithNode(version, "train", "a file.yaml", "");
  const script = join(folder, "project", "scripts", "ringfold.ts");
  const strip = asked ? "--experimental-strip-types " : "";
  expect(stdout).toBe(
    `--disable-warning=ExperimentalWarning ${smallHeapOptions.join(" ")} ${strip}${script} train a file.yaml \n`,
  );
  expect(exitCode).toBe(0);
});

test("says so when there is no Node at all", async () => {
  const bin = join(folder, "without-node");
  await mkdir(bin);
  for (const tool of ["readlink", "dirname"]) await symlink(`/usr/bin/${tool}`, join(bin, tool));
  const { exitCode, stderr } = await runRingfold([], {
    launcher: join(folder, "project", "scripts", "ringfold"),
    env: { PATH: bin },
  });
  expect(exitCode).toBe(78);
  expect(stderr).toContain("found none");
});
