import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { encode } from "../../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { type DatasetManifest, datasetManifestSchema } from "../../../protocol/messages/dataset.ts";
import type { Preparation } from "../../../protocol/preparation.ts";
import type { ChunkSink } from "../chunk-writer.ts";
import { prepareImages } from "./image-preparation.ts";
import { preparePairs } from "./pairs-preparation.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import { tableFormat } from "./source-table.ts";
import { type PreparedContent, prepareTable } from "./table-preparation.ts";
import { prepareText } from "./text-preparation.ts";

/**
 * Makes a data set of a file or a folder: writes its chunks, and answers with its manifest and the bytes that name it.
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID | ENGINE_UNAVAILABLE; the reason of the watch's signal
 */
export async function prepareDataset(
  path: string,
  preparation: Preparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<{ manifest: DatasetManifest; bytes: Uint8Array }> {
  const source = await identify(path, preparation.kind, watch.signal);
  const content = await prepare(path, preparation, put, watch);
  // Parsed once, so that keys stand in the order of the schema and the digest is everybody's.
  const manifest = datasetManifestSchema.parse({ format: 1, source, preparation, ...content });
  return { manifest, bytes: encode(manifest) };
}

function prepare(
  path: string,
  preparation: Preparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<PreparedContent> {
  switch (preparation.kind) {
    case "table":
      return prepareTable({ path, format: tableFormat(path) }, preparation, put, watch);
    case "pairs":
      return preparePairs({ path, format: tableFormat(path) }, preparation, put, watch);
    case "text":
      return prepareText(path, preparation, put, watch);
    case "images":
      return prepareImages(path, preparation, put, watch);
  }
}

/** Kind, size and SHA-256 of a source; of a folder over the names and contents of its files. */
async function identify(
  path: string,
  kind: Preparation["kind"],
  signal: AbortSignal,
): Promise<DatasetManifest["source"]> {
  const hash = createHash("sha256");
  try {
    const isFolder = (await stat(path)).isDirectory();
    if (isFolder !== (kind === "images")) {
      const found = isFolder ? "a folder, and no file" : "a file, and no folder of images";
      throw new RingfoldError("DATA_INVALID", `${path} is ${found}`, { path });
    }
    if (!isFolder) return { kind, bytes: await hashFile(hash, path, signal), digest: hash.digest("hex") };
    let bytes = 0;
    const entries = await readdir(path, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    for (const file of files.sort()) {
      hash.update(`${relative(path, file)}\0`);
      bytes += await hashFile(hash, file, signal);
    }
    return { kind, bytes, digest: hash.digest("hex") };
  } catch (cause) {
    signal.throwIfAborted();
    throw toRingfoldError(cause, "DATA_INVALID");
  }
}

async function hashFile(hash: Hash, path: string, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  for await (const piece of createReadStream(path, { signal })) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).length;
  }
  return bytes;
}
