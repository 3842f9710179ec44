import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The contract suite of the engines with webgpu computed in software, where there is no GPU: `npm run test:webgpu`. Installs the
 * two packages of the engine for this run of the suite (132 MB, no entry in package.json), and fails when it does not start.
 */
const packages = ["webgpu@0.6.2", "@tensorflow/tfjs-backend-webgpu@4.22.0"];
/** Of Debian's chromium-common; the software renderer that Dawn accepts. */
const renderer = "/usr/lib/chromium/libvk_swiftshader.so";
const root = fileURLToPath(new URL("..", import.meta.url));
const unavailable = 69;

if (!existsSync(renderer)) {
  process.stderr.write(`${renderer} is not there: apt-get install chromium-common libvulkan1\n`);
  process.exit(unavailable);
}
const folder = mkdtempSync(join(tmpdir(), "ringfold-webgpu-"));
try {
  const driver = join(folder, "swiftshader.json");
  const manifest = { file_format_version: "1.0.0", ICD: { library_path: renderer, api_version: "1.1.0" } };
  writeFileSync(driver, JSON.stringify(manifest));
  const env = { ...process.env, VK_ICD_FILENAMES: driver, RINGFOLD_TEST_ENGINES: "webgpu" };
  const run = (command: string, ...parameters: string[]) => {
    const { status } = spawnSync(command, parameters, {
      cwd: root,
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (status !== 0) process.exitCode = status ?? 1;
    return status === 0;
  };
  // Packages with a build step of their own have been built by the first install.
  const install = ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
  if (run("npm", ...install, ...packages))
    run("vitest", "run", "--project", "in-process", "test/contract/engine");
} finally {
  rmSync(folder, { recursive: true });
}
