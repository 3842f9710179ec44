import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { hasTorch, torchPython, torchRelease } from "../fixtures/torch-python.ts";

/** The Python package by itself, with a real torch: test/python. */
const pathOf = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

test.skipIf(!hasTorch)(
  `the package keeps types, layouts and buckets (torch ${torchRelease})`,
  () => {
    const { status, stderr } = spawnSync(
      torchPython,
      ["-m", "unittest", "discover", "-s", pathOf("../python")],
      {
        env: { ...process.env, PYTHONPATH: pathOf("../../agent/torch"), PYTHONDONTWRITEBYTECODE: "1" },
        encoding: "utf8",
        timeout: 60_000,
      },
    );
    expect(stderr).toMatch(/\nOK$/m);
    expect(status).toBe(0);
  },
  60_000,
);
