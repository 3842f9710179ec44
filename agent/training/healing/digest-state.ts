import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

/** 2 ms of hashing between two turns of the event loop. */
const pieceBytes = 4 * 1024 * 1024;

/**
 * SHA-256. Cost: 0.6 s a GB, in pieces, so that sockets have their turn; WebCrypto's threads took three times that here, as
 * they copy what they hash.
 */
export async function digestState(state: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (let start = 0; start < state.length; start += pieceBytes) {
    hash.update(state.subarray(start, start + pieceBytes));
    await nextTurn();
  }
  return hash.digest("hex");
}
