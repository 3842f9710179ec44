import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { main as compile } from "assemblyscript/asc";

/**
 * Builds the WebAssembly kernels. Their output is committed, so that nobody needs a compiler to run Ringfold.
 *
 * - agent/engine/kernels: training, three times: kernels-wide.wasm (fused multiply-add, tiles for 256-bit registers),
 *   kernels-relaxed.wasm (fused multiply-add) and kernels-simd.wasm (plain SIMD128)
 * - agent/training/kernels: the optimizers, plain SIMD128 only: the same bits on every machine
 * - agent/ring/kernels: the ring, plain SIMD128 only: the same bits on every machine
 *
 *     npm run build:kernels             writes all
 *     npm run build:kernels -- --check  rebuilds, compares byte for byte, exits 1 on a difference
 */

const root = fileURLToPath(new URL("..", import.meta.url));
/** The compiler takes paths relative to the folder, so that the output does not depend on where the clone lies. */
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
  {
    folder: "agent/engine/kernels",
    file: "kernels-wide.wasm",
    flags: ["--enable=relaxed-simd", "--use=WIDE=1"],
  },
  {
    folder: "agent/engine/kernels",
    file: "kernels-relaxed.wasm",
    flags: ["--enable=relaxed-simd", "--use=WIDE=0"],
  },
  { folder: "agent/engine/kernels", file: "kernels-simd.wasm", flags: ["--use=WIDE=0"] },
  { folder: "agent/training/kernels", file: "kernels.wasm", flags: [] },
  {
    folder: "agent/ring/kernels",
    file: "kernels.wasm",
    // Its memory is shared between threads, never written by two at a time; 65,536 pages are all that there can be.
    flags: ["--enable=threads", "--sharedMemory", "--maximumMemory=65536"],
  },
];

async function build(folder: string, flags: readonly string[], scratch: string): Promise<Uint8Array> {
  const outFile = join(scratch, "kernels.wasm");
  const { error, stderr } = await compile([
    sources,
    `--baseDir=${join(root, folder)}`,
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
  for (const { folder, file, flags } of builds) {
    const bytes = await build(folder, flags, scratch);
    const name = `${folder}/${file}`;
    if (!check) {
      await writeFile(join(root, name), bytes);
      console.log(`${name}: ${bytes.byteLength} bytes`);
    } else if (Buffer.compare(bytes, await readFile(join(root, name))) === 0) {
      console.log(`${name}: the same as its sources`);
    } else {
      console.error(`${name} differs from its sources: run npm run build:kernels and commit the result`);
      process.exitCode = 1;
    }
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
}
