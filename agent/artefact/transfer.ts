import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { listArtefacts, readArtefact, statArtefact } from "../../protocol/messages/artefact.ts";
import type { ClusterNetwork, Log } from "../../protocol/ports.ts";
import { type ArtefactStore, sha256 } from "./store.ts";

/** Lets peers read what this agent has. */
export function serveArtefacts(network: ClusterNetwork, store: ArtefactStore): void {
  network.handle(statArtefact, async ({ digest }) => {
    const bytes = store.stat(digest);
    if (bytes === undefined)
      throw new RingfoldError("ARTEFACT_MISSING", `no artefact ${digest} here`, { digest });
    return { bytes };
  });
  network.handle(listArtefacts, async ({ after }) => {
    const { store: id, revision } = store.holdings(); // before the page: what changes meanwhile is told again
    const digests = store.list({ after, max: limits.artefactsListed });
    return { store: id, revision, digests, isLast: digests.length < limits.artefactsListed };
  });
  network.handle(readArtefact, async ({ digest, chunkIndex }) => ({
    bytes: store.readChunk(digest, chunkIndex),
  }));
}

/**
 * The artefact from our own store, else from the first of `holders` that has it whole and true; kept here afterwards.
 * @throws RingfoldError ARTEFACT_MISSING with what each peer said; the reason of `signal` when that aborts
 */
export async function fetchArtefact(
  digest: string,
  from: {
    readonly network: ClusterNetwork;
    readonly store: ArtefactStore;
    readonly holders: readonly string[];
    readonly log: Log;
    /** Whether peers are told that it is here now; they are unless told otherwise. */
    readonly listed?: boolean;
  },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { network, store, holders, log, listed = true } = from;
  const own = await readOwn(digest, store, log);
  if (own) return own;
  const refusals: string[] = [];
  for (const peerId of holders) {
    signal.throwIfAborted();
    try {
      const bytes = await download(network, peerId, digest, signal);
      await store.put(bytes, { listed });
      log.info({ digest, peer: peerId, bytes: bytes.byteLength }, "Fetched an artefact");
      return bytes;
    } catch (cause) {
      signal.throwIfAborted();
      const error = toRingfoldError(cause);
      refusals.push(`${peerId.slice(-6)}: ${error.message}`);
    }
  }
  const detail = refusals.length > 0 ? refusals.join("; ") : "no live peer holds it";
  throw new RingfoldError("ARTEFACT_MISSING", `cannot fetch artefact ${digest.slice(0, 12)}: ${detail}`, {
    digest,
  });
}

/** Our own copy; a damaged one is removed, so that a good one takes its place. */
async function readOwn(digest: string, store: ArtefactStore, log: Log): Promise<Uint8Array | undefined> {
  if (store.stat(digest) === undefined) return undefined;
  try {
    return store.get(digest);
  } catch (error) {
    if (!(error instanceof RingfoldError && error.code.startsWith("ARTEFACT_"))) throw error;
    log.warn(
      { err: error, digest },
      "A stored artefact is damaged: it is taken away and fetched from a peer",
    );
    await store.remove(digest);
    return undefined;
  }
}

async function download(
  network: ClusterNetwork,
  peerId: string,
  digest: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { bytes: size } = await network.request(peerId, statArtefact, { digest }, { signal });
  const bytes = new Uint8Array(size);
  for (let start = 0, chunkIndex = 0; start < size; start += limits.artefactChunkBytes, chunkIndex++) {
    const chunk = await network.request(peerId, readArtefact, { digest, chunkIndex }, { signal });
    if (chunk.bytes.byteLength !== Math.min(limits.artefactChunkBytes, size - start))
      throw corrupt(peerId, digest);
    bytes.set(chunk.bytes, start);
  }
  if (sha256(bytes) !== digest) throw corrupt(peerId, digest);
  return bytes;
}

const corrupt = (peer: string, digest: string): RingfoldError =>
  new RingfoldError("ARTEFACT_CORRUPT", `${peer} sent other bytes than ${digest.slice(0, 12)}`, {
    peer,
    digest,
  });
