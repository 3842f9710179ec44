import { generateKey } from "@libp2p/pnet";

/** A fresh libp2p pre-shared key, in the text form of its file. */
export function createSwarmKey(): string {
  const bytes = new Uint8Array(95); // the length of the file, fixed by the format
  generateKey(bytes);
  return new TextDecoder().decode(bytes);
}
