import { RingfoldError } from "../../../protocol/errors.ts";
import type { ArtefactStore } from "../../artefact/store.ts";

/** A job's checkpoints on this disk, and the way to those of other agents. */
export interface CheckpointAccess {
  readonly store: Pick<ArtefactStore, "stat" | "get" | "remove">;
  /** Brings one of another agent into the store. */
  readonly fetchArtefact: (digest: string, signal: AbortSignal) => Promise<void>;
}

/**
 * The state that a checkpoint holds, wherever it is. What was fetched does not stay: it has no name here by which it would ever be
 * removed, and whoever goes on from it soon writes one of its own.
 *
 * @throws RingfoldError PEER_UNREACHABLE while nobody in reach has it: who does may be away for a moment, which says nothing
 *   against whoever asks for it; and as `ArtefactStore.get`
 */
export async function readCheckpoint(
  digest: string,
  { store, fetchArtefact }: CheckpointAccess,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const isOurs = store.stat(digest) !== undefined;
  try {
    if (isOurs) return store.get(digest);
  } catch (cause) {
    if (!(cause instanceof RingfoldError && cause.code.startsWith("ARTEFACT_"))) throw cause;
  }
  // The agent takes a damaged copy away first.
  await fetchArtefact(digest, signal).catch((cause) => {
    if (!(cause instanceof RingfoldError && cause.code === "ARTEFACT_MISSING")) throw cause;
    const message = "nobody in reach has the checkpoint that this rank is to begin from";
    throw new RingfoldError("PEER_UNREACHABLE", message, { missing: digest }, { cause });
  });
  try {
    return store.get(digest);
  } finally {
    if (!isOurs) await store.remove(digest);
  }
}
