import { decode } from "../../protocol/codec.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { type DatasetManifest, datasetManifestSchema } from "../../protocol/messages/dataset.ts";
import type { ArtefactStore } from "./store.ts";

/** Undefined for artefacts that are something else (weights, checkpoints, chunks), are damaged or not here. */
export function readManifest(store: ArtefactStore, digest: string): DatasetManifest | undefined {
  if ((store.stat(digest) ?? Number.POSITIVE_INFINITY) > limits.datasetManifestBytes) return undefined;
  try {
    return decode(store.get(digest), datasetManifestSchema, limits.datasetManifestBytes);
  } catch (error) {
    if (error instanceof RingfoldError) return undefined;
    throw error;
  }
}
