import { createHash } from "node:crypto";

const blockBytes = 64 * 1024 * 1024;

/**
 * SHA-256 over the SHA-256 of each 64 MB, made by WebCrypto's threads: hashing a GB takes most of a second, and the thread
 * that trains has other things to do.
 */
export async function digestState(state: Uint8Array): Promise<string> {
  const whole = createHash("sha256");
  for (let start = 0; start < state.length; start += blockBytes) {
    const block = state.slice(start, start + blockBytes);
    whole.update(new Uint8Array(await crypto.subtle.digest("SHA-256", block)));
  }
  return whole.digest("hex");
}
