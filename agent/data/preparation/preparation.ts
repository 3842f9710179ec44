import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { encode } from "../../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { type DatasetManifest, datasetManifestSchema } from "../../../protocol/messages/dataset.ts";
import type { Preparation } from "../../../protocol/preparation.ts";
import type { ChunkSink } from "../chunk-writer.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import type { TableFormat } from "./source-table.ts";
import { prepareTable } from "./table-preparation.ts";

const formats: Readonly<Record<string, TableFormat>> = {
  csv: "csv",
  tsv: "csv",
  jsonl: "jsonl",
  ndjson: "jsonl",
  parquet: "parquet",
};

/**
 * Makes a data set of a file: writes its chunks, and answers with its manifest and the bytes that name it.
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID | ENGINE_UNAVAILABLE; the reason of the watch's signal
 */
export async function prepareDataset(
  path: string,
  preparation: Preparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<{ manifest: DatasetManifest; bytes: Uint8Array }> {
  const format = formats[/\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? ""];
  if (!format) {
    throw new RingfoldError(
      "DATA_INVALID",
      `${path}: its name does not end as one of ${Object.keys(formats).join(", ")}`,
      {
        path,
      },
    );
  }
  const source = await identify(path, format, watch.signal);
  const content = await prepareTable({ path, format }, preparation, put, watch);
  // Parsed once, so that keys stand in the order of the schema and the digest is everybody's.
  const manifest = datasetManifestSchema.parse({ format: 1, source, preparation, ...content });
  return { manifest, bytes: encode(manifest) };
}

async function identify(path: string, kind: string, signal: AbortSignal): Promise<DatasetManifest["source"]> {
  const facts = await stat(path).catch((cause) => {
    throw toRingfoldError(cause, "DATA_INVALID");
  });
  if (facts.isDirectory())
    throw new RingfoldError("DATA_INVALID", `${path} is a folder, not a ${kind} file`, { path });
  const hash = createHash("sha256");
  try {
    for await (const piece of createReadStream(path, { signal })) hash.update(piece as Buffer);
  } catch (cause) {
    signal.throwIfAborted();
    throw toRingfoldError(cause, "DATA_INVALID");
  }
  return { kind, bytes: facts.size, digest: hash.digest("hex") };
}
