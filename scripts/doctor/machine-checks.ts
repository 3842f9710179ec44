import { mkdtemp, open, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { usableMemory } from "../../agent/usable-memory.ts";
import packageJson from "../../package.json" with { type: "json" };
import { formatBytes } from "../commands/present/quantity.ts";
import { type Check, type Finding, fail, ok, warn } from "./finding.ts";

const gib = 1024 ** 3;
/** A checkpoint of a small model and a few versions; below the second one not even those. */
const diskBytesWanted = 4 * gib;
const diskBytesNeeded = 0.25 * gib;
/** An agent, a trainer and a shard host are some 150 MB each before any model. */
const memoryBytesWanted = 1 * gib;

export function judgeNode(version: string, wanted = packageJson.engines.node): Finding {
  const [major = 0, minor = 0] = version.replace(/^v/, "").split(".").map(Number);
  const [leastMajor = 0, leastMinor = 0] = wanted.replace(/^>=/, "").split(".").map(Number);
  const isNewEnough = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  return isNewEnough
    ? ok(`Node ${version}`)
    : fail(
        `Node ${version} is too old: ${wanted} is needed`,
        "Run `npm install` in the checkout, which brings one.",
      );
}

export function judgeMemory(bytes: number): Finding {
  const detail = `${formatBytes(bytes)} for this machine's processes`;
  return bytes >= memoryBytesWanted ? ok(detail) : warn(detail, "Small models only; give it 1 GiB or more.");
}

export function judgeDisk(freeBytes: number, path: string): Finding {
  const detail = `${formatBytes(freeBytes)} free at ${path}`;
  if (freeBytes < diskBytesNeeded)
    return fail(detail, "Free some space, or name another folder with --data.");
  return freeBytes < diskBytesWanted
    ? warn(detail, "Checkpoints and versions will soon fill it.")
    : ok(detail);
}

/** What this machine is, without any network. @param dataPath where the agent keeps its identity and artefacts */
export function machineChecks(dataPath: string): Check[] {
  return [
    { name: "node", look: async () => judgeNode(process.version) },
    {
      name: "memory",
      look: async () => judgeMemory(usableMemory().memoryBytes),
    },
    { name: "disk", look: () => lookAtDisk(dataPath) },
  ];
}

/** Space, and whether what is written there reaches the disk. */
async function lookAtDisk(dataPath: string): Promise<Finding> {
  const folder = await nearestFolder(dataPath);
  const { bavail, bsize } = await statfs(folder);
  try {
    const trial = await mkdtemp(join(folder, ".ringfold-doctor-"));
    try {
      const file = await open(join(trial, "trial"), "w");
      await file.writeFile("written by ringfold doctor\n");
      await file.sync();
      await file.close();
    } finally {
      await rm(trial, { recursive: true, force: true });
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    return fail(
      `cannot write to ${folder} (${code})`,
      "Check its owner and the mount, or name another with --data.",
    );
  }
  return judgeDisk(bavail * bsize, folder);
}

/** The folder itself, or the one above it that is there: an agent makes the rest at its first start. */
async function nearestFolder(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() || dirname(path) === path) return path;
  return nearestFolder(dirname(path));
}
