import { createHash } from "node:crypto";
import { privateKeyFromRaw, publicKeyFromRaw } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey, peerIdFromPublicKey, peerIdFromString } from "@libp2p/peer-id";
import canonicalize from "canonicalize";
import type { z } from "zod";
import { RingfoldError } from "./errors.ts";
import { parseJson } from "./http.ts";
import { shortPeer } from "./ids.ts";
import { type Envelope, statementMediaType } from "./messages/attestation.ts";

/**
 * Signed statements. The envelope is DSSE, the signature Ed25519 by libp2p with the key that makes a machine the peer that it
 * is, so whoever knows a peer id can verify it with nothing else at hand.
 */

/** @returns the one text that a JSON value has. Source: RFC 8785. @throws where it is none: NaN, a cycle */
function canonicalText(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError("not a JSON value");
  return text;
}

/** SHA-256 of the canonical text: the same for everybody who has the value, in whatever order its keys came. */
export const canonicalDigest = (value: unknown): string =>
  createHash("sha256").update(canonicalText(value)).digest("hex");

export interface Signer {
  /** Its key id, from which the public key can be read. */
  readonly peerId: string;
  sign(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** The two numbers of an Ed25519 key in JWK form, of which the second is private. Source: RFC 8037, section 2. */
interface Ed25519Jwk {
  readonly x?: string | undefined;
  readonly d?: string | undefined;
}
const raw = (number: string | undefined): Buffer => Buffer.from(number ?? "", "base64url");

/** How a key that is kept as a JWK is named under what it has signed: as the peer that it would be, so that it says all. */
export const keyIdOf = ({ x }: Ed25519Jwk): string =>
  peerIdFromPublicKey(publicKeyFromRaw(raw(x))).toString();

/** Signs with a key that is kept as a JWK. */
export function signerOfJwk({ d, x }: Ed25519Jwk): Signer {
  const key = privateKeyFromRaw(Buffer.concat([raw(d), raw(x)]));
  return { peerId: peerIdFromPrivateKey(key).toString(), sign: (bytes) => key.sign(bytes) };
}

/** Whether `signature` is that of a peer over `bytes`. Never throws. */
export type SignatureCheck = (peerId: string, bytes: Uint8Array, signature: Uint8Array) => Promise<boolean>;

export const isSignedByPeer: SignatureCheck = async (peerId, bytes, signature) => {
  try {
    const { publicKey } = peerIdFromString(peerId);
    return (await publicKey?.verify(bytes, signature)) ?? false;
  } catch {
    return false; // no peer id, or no signature by its length
  }
};

/** What is signed: type and payload with their lengths. Source: DSSE v1.0.2, protocol.md, "PAE". */
function preAuthEncoding(payload: Uint8Array): Uint8Array {
  const head = `DSSEv1 ${statementMediaType.length} ${statementMediaType} ${payload.byteLength} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** Seals a statement with one signature. */
export async function attest(statement: object, signer: Signer): Promise<Envelope> {
  const payload = Buffer.from(canonicalText(statement));
  const signature = await signer.sign(preAuthEncoding(payload));
  return {
    payloadType: statementMediaType,
    payload: payload.toString("base64"),
    signatures: [{ keyid: signer.peerId, sig: Buffer.from(signature).toString("base64") }],
  };
}

/**
 * What an envelope says, once every signature on it has been verified.
 * @throws RingfoldError SIGNATURE_INVALID
 */
export async function openEnvelope<Statement>(
  { payload, signatures }: Envelope,
  schema: z.ZodType<Statement>,
  isSignedBy: SignatureCheck = isSignedByPeer,
): Promise<{ readonly statement: Statement; readonly signers: readonly string[] }> {
  const bytes = Buffer.from(payload, "base64");
  const signed = preAuthEncoding(bytes);
  for (const { keyid, sig } of signatures) {
    if (await isSignedBy(keyid, signed, Buffer.from(sig, "base64"))) continue;
    const message = `the signature is not that of ${shortPeer(keyid)}`;
    throw new RingfoldError("SIGNATURE_INVALID", message, { peer: keyid });
  }
  const statement = schema.safeParse(parseJson(bytes.toString()));
  if (!statement.success) {
    const [issue] = statement.error.issues;
    const where = issue?.path.join(".") || "it";
    throw new RingfoldError(
      "SIGNATURE_INVALID",
      `what was signed is another statement: ${where} is not as expected`,
    );
  }
  return { statement: statement.data, signers: signatures.map(({ keyid }) => keyid) };
}
