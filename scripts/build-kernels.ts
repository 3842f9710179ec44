import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { main as compile } from "assemblyscript/asc";

/**
 * Builds agent/engine/kernels/assembly twice: kernels-relaxed.wasm (fused multiply-add) and kernels-simd.wasm (plain
 * SIMD128). Both are committed, so that nobody needs a compiler to run Ringfold.
 *
 *     npm run build:kernels             writes both
 *     npm run build:kernels -- --check  rebuilds, compares byte for byte, exits 1 on a difference
 */

const folder = fileURLToPath(new URL("../agent/engine/kernels/", import.meta.url));
/** The compiler takes paths relative to this folder, so that the output does not depend on where the clone lies. */
const sources = "assembly/index.ts";

const commonFlags = [
  "--runtime=stub",
  "--importMemory",
  "--noExportMemory",
  "--initialMemory=1",
  "-O3",
  "--noAssert",
  "--enable=simd",
  // v128 passes between our own functions only, never to JavaScript.
  "--disableWarning=112",
];
const builds = [
  { file: "kernels-relaxed.wasm", flags: ["--enable=relaxed-simd"] },
  { file: "kernels-simd.wasm", flags: [] },
];

async function build(flags: readonly string[], scratch: string): Promise<Uint8Array> {
  const outFile = join(scratch, "kernels.wasm");
  const { error, stderr } = await compile([
    sources,
    `--baseDir=${folder}`,
    ...commonFlags,
    ...flags,
    `--outFile=${outFile}`,
  ]);
  if (error) throw new Error(`the AssemblyScript compiler failed:\n${stderr.toString()}`);
  return readFile(outFile);
}

const check = process.argv.includes("--check");
const scratch = await mkdtemp(join(tmpdir(), "ringfold-kernels-"));
try {
  for (const { file, flags } of builds) {
    const bytes = await build(flags, scratch);
    const path = join(folder, file);
    if (!check) {
      await writeFile(path, bytes);
      console.log(`${file}: ${bytes.byteLength} bytes`);
    } else if (Buffer.compare(bytes, await readFile(path)) === 0) {
      console.log(`${file}: the same as its sources`);
    } else {
      console.error(`${file} differs from its sources: run npm run build:kernels and commit the result`);
      process.exitCode = 1;
    }
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
}
