import { chmod, mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { generateCertificate } from "@libp2p/tls/utils";
import type { Signer } from "../../protocol/attestation.ts";
import { RingfoldError } from "../../protocol/errors.ts";

/**
 * The Ed25519 key that makes a machine the same peer after a restart; created at the first start.
 * @throws RingfoldError CONFIG_INVALID when the file is not such a key
 */
export async function loadIdentity(path: string): Promise<Ed25519PrivateKey> {
  const stored = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new RingfoldError("CONFIG_INVALID", `${path}: ${error.message}`, { path }, { cause: error });
  });
  if (stored === undefined) {
    const key = await generateKeyPair("Ed25519");
    await writePrivateFile(path, privateKeyToProtobuf(key));
    return key;
  }
  try {
    const key = privateKeyFromProtobuf(stored);
    if (key.type !== "Ed25519") throw new Error(`key type ${key.type}`);
    return key;
  } catch (cause) {
    throw new RingfoldError(
      "CONFIG_INVALID",
      `${path} is not an identity key`,
      { path, remedy: "Restore the file from a backup, or delete it to become a new peer." },
      { cause },
    );
  }
}

/** The peer id of the machine whose key lies at `path`; the key is made when there is none. @throws as loadIdentity */
export const loadPeerId = async (path: string): Promise<string> =>
  peerIdFromPrivateKey(await loadIdentity(path)).toString();

/** Signs with the identity: what this machine has made, for whoever knows its peer id. */
export const signerOf = (privateKey: Ed25519PrivateKey): Signer => ({
  peerId: peerIdFromPrivateKey(privateKey).toString(),
  sign: (bytes) => privateKey.sign(bytes),
});

/** A certificate for the data plane: a key of its own, signed by the identity (libp2p TLS specification). */
export const certifyIdentity = (privateKey: Ed25519PrivateKey): Promise<{ cert: string; key: string }> =>
  generateCertificate(privateKey);

/** A peer that lives only as long as its process: for measurements. */
export async function createTransientIdentity(): Promise<{
  readonly peerId: string;
  readonly certificate: { readonly cert: string; readonly key: string };
}> {
  const privateKey = await generateKeyPair("Ed25519");
  return {
    peerId: peerIdFromPrivateKey(privateKey).toString(),
    certificate: await certifyIdentity(privateKey),
  };
}

/** Writes a file that only its owner can read, whole or not at all, and on disk before it returns. */
export async function writePrivateFile(path: string, content: Uint8Array | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}
