import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

/** The Python package by itself, with a real torch: test/python. */
const python = "/usr/bin/python3";
const hasTorch = spawnSync(python, ["-c", "import torch"]).status === 0;
const pathOf = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

test.skipIf(!hasTorch)(
  "the package keeps types, layouts and buckets (skipped without python3-torch)",
  () => {
    const { status, stderr } = spawnSync(python, ["-m", "unittest", "discover", "-s", pathOf("../python")], {
      env: { ...process.env, PYTHONPATH: pathOf("../../agent/torch"), PYTHONDONTWRITEBYTECODE: "1" },
      encoding: "utf8",
      timeout: 60_000,
    });
    expect(stderr).toMatch(/\nOK$/m);
    expect(status).toBe(0);
  },
  60_000,
);
