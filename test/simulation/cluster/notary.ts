import { createHash } from "node:crypto";
import type { Notary } from "../../../coordinator/credentials.ts";
import type { Signer } from "../../../protocol/attestation.ts";
import type { ClusterAuthority, TokenClaims } from "../../../protocol/credentials.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { memoryPeerId } from "../memory-network.ts";

/** Signatures are not what the simulation is about, and computing real ones leaves its thread: these only look like it. */
const clusterName = "simulated";
const publicJwk = { kty: "OKP", crv: "Ed25519", x: "simulated" } as const;

export const simulatedAuthority: ClusterAuthority = { clusterName, privateJwk: publicJwk, publicJwk };
export const simulatedToken = "a join token";

export const simulatedClaims = (coordinator: string): TokenClaims => ({
  ...{ iss: clusterName, role: "worker", exp: Number.MAX_SAFE_INTEGER, swarmKey: "", coordinator },
  addresses: [`/simulated/${coordinator}`],
  authority: publicJwk,
});

export const simulatedSigner = (peerId: string): Signer => ({
  peerId,
  sign: (bytes) => signatureOf(peerId, bytes),
});

const signatureOf = (peerId: string, bytes: Uint8Array): Uint8Array =>
  createHash("sha512").update(peerId).update(bytes).digest();

export const simulatedNotary: Notary = {
  isSignedBy: async (peerId, bytes, signature) => Buffer.from(signatureOf(peerId, bytes)).equals(signature),
  authoritySigner: () => simulatedSigner(memoryPeerId(98)),
  verifyToken: async (_publicJwk, token) => {
    if (token !== simulatedToken) throw new RingfoldError("TOKEN_INVALID", "not signed by this cluster");
    return simulatedClaims("");
  },
  issueMembership: async (_authority, { peerId }) => `membership of ${peerId}`,
  verifyMembership: async (_publicJwk, certificate, peerId) => {
    if (certificate !== `membership of ${peerId}`)
      throw new RingfoldError("NOT_A_MEMBER", "the membership certificate belongs to another peer");
    return { iss: clusterName, sub: peerId, roles: ["worker"] };
  },
};
