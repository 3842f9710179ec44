// Brings a fresh clone to the point where `npm run demo` and `npm test` work: packages (and with them the pinned Node that
// later npm scripts find first on their path) and the built dashboard. Plain JavaScript, as the machine's own Node, 20 or
// later, runs it. Does nothing, in milliseconds, when everything is in place.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const oldestNpmNode = 20;

/** Runs a step again when what it is made from has changed since it last succeeded. */
function step({ what, stampPath, inputs, present, command }) {
  const stamp = digest(inputs);
  if (present() && existsSync(stampPath) && readFileSync(stampPath, "utf8") === stamp) return;
  process.stderr.write(`ringfold: ${what} ...\n`);
  const startedAtMs = Date.now();
  // npm's own words go to stderr: stdout belongs to the command that comes after us.
  const { status, error } = spawnSync(command[0], command.slice(1), {
    cwd: root,
    stdio: ["ignore", 2, 2],
    env: childEnvironment(),
  });
  if (status !== 0) {
    process.stderr.write(
      `ringfold: ${what} failed${error ? `: ${error.message}` : ""}. The lines above say why; then run the command again.\n`,
    );
    process.exit(75);
  }
  mkdirSync(dirname(stampPath), { recursive: true });
  writeFileSync(stampPath, stamp);
  process.stderr.write(`ringfold: ${what}: done in ${((Date.now() - startedAtMs) / 1000).toFixed(0)} s\n`);
}

function childEnvironment() {
  const env = {
    ...process.env,
    npm_config_loglevel: "error",
    npm_config_fund: "false",
    npm_config_audit: "false",
  };
  env.PATH = `${join(root, "node_modules", ".bin")}${process.platform === "win32" ? ";" : ":"}${env.PATH}`;
  // Set by an outer `npm run --json` and the like; an install must not inherit them.
  for (const name of Object.keys(env))
    if (/^npm_config_(json|silent|dry_run|omit|production)$/i.test(name)) delete env[name];
  return env;
}

function digest(paths) {
  const hash = createHash("sha256").update(`${process.platform}-${process.arch}`);
  for (const path of paths.flatMap(filesBelow).sort())
    hash.update(relative(root, path)).update(readFileSync(path));
  return hash.digest("hex");
}

function filesBelow(path) {
  if (!existsSync(path)) return [];
  const entries = readdirSync(dirname(path), { withFileTypes: true });
  if (entries.find((entry) => join(dirname(path), entry.name) === path)?.isFile()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.name !== "dist" && entry.name !== "node_modules")
    .flatMap((entry) => filesBelow(join(path, entry.name)));
}

if (Number(process.versions.node.split(".")[0]) < oldestNpmNode) {
  process.stderr.write(
    `ringfold: Node ${process.versions.node} is too old; install Node ${oldestNpmNode} or later.\n`,
  );
  process.exit(78);
}
const stamps = join(root, "node_modules", ".ringfold");
step({
  what: "installing packages",
  stampPath: join(stamps, "packages"),
  inputs: [join(root, "package-lock.json")],
  present: () => existsSync(join(root, "node_modules", "vitest")),
  // Not `npm ci`: that refuses a lockfile without an entry for another platform's optional package, and a registry mirror
  // may lack one. This takes the locked versions all the same and leaves the lockfile alone.
  command: [process.platform === "win32" ? "npm.cmd" : "npm", "install", "--no-save"],
});
step({
  what: "building the dashboard",
  stampPath: join(stamps, "dashboard"),
  inputs: [join(root, "dashboard"), join(root, "protocol")],
  present: () => existsSync(join(root, "dashboard", "dist", "index.html")),
  command: [
    join(root, "node_modules", ".bin", "node"),
    join(root, "node_modules", "vite", "bin", "vite.js"),
    "build",
    "dashboard",
    "--logLevel",
    "warn",
  ],
});
