import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadIdentity, writePrivateFile } from "../../agent/network/identity.ts";
import { collections } from "../../coordinator/state.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Store } from "../../protocol/ports.ts";

export const identityPath = (dataPath: string): string => join(dataPath, "identity.key");
export const tokenPath = (dataPath: string): string => join(dataPath, "operator-token");

/** A secret in a file that only this user reads: whoever can read it may steer the cluster. */
export async function loadOperatorToken(dataPath: string): Promise<string> {
  const stored = await readFile(tokenPath(dataPath), "utf8").catch(() => "");
  if (stored.trim().length >= 32) return stored.trim();
  const token = randomBytes(32).toString("base64url");
  await writePrivateFile(tokenPath(dataPath), `${token}\n`);
  return token;
}

/**
 * Coordinators of one cluster are one peer to the agents, whichever leads: they share an identity and an operator token.
 * The first one brings its own; the others take them over into their data folders.
 * @throws RingfoldError CONFIG_INVALID when this folder holds another identity already
 */
export async function shareSecrets(store: Store, dataPath: string): Promise<void> {
  const path = identityPath(dataPath);
  const shared = collections.shared.read(store, "coordinator");
  const own = await readFile(path).catch(() => undefined);
  if (!shared) {
    await loadIdentity(path);
    const operatorToken = await loadOperatorToken(dataPath);
    const identityKey = new Uint8Array(await readFile(path));
    await store.write([collections.shared.put("coordinator", { identityKey, operatorToken })]);
    return;
  }
  if (own && Buffer.compare(own, shared.identityKey) !== 0) {
    const remedy = "Give --data a folder of its own for this cluster.";
    throw new RingfoldError("CONFIG_INVALID", `${path} is the identity of another cluster`, { path, remedy });
  }
  if (!own) await writePrivateFile(path, shared.identityKey);
  await writePrivateFile(tokenPath(dataPath), `${shared.operatorToken}\n`);
}
