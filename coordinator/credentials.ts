import { isSignedByPeer, type SignatureCheck, type Signer, signerOfJwk } from "../protocol/attestation.ts";
import {
  type ClusterAuthority,
  createAuthority,
  issueMembership,
  verifyMembership,
  verifyToken,
} from "../protocol/credentials.ts";
import type { Store } from "../protocol/ports.ts";
import { collections } from "./state.ts";

export interface ClusterCredentials {
  readonly authority: ClusterAuthority;
  /** libp2p pre-shared key file, as text. */
  readonly swarmKey: string;
}

/** Issues and checks what peers show: signatures outside the simulator, whose results do not depend on threads. */
export interface Notary {
  readonly verifyToken: typeof verifyToken;
  readonly verifyMembership: typeof verifyMembership;
  readonly issueMembership: typeof issueMembership;
  readonly isSignedBy: SignatureCheck;
  /** What the authority says beside certificates: texts that begin otherwise, so none can be taken for one. */
  readonly authoritySigner: (authority: ClusterAuthority) => Signer;
}
export const signatureNotary: Notary = {
  ...{ verifyToken, verifyMembership, issueMembership },
  isSignedBy: isSignedByPeer,
  authoritySigner: ({ privateJwk }) => signerOfJwk(privateJwk),
};

/** The cluster's secrets: made at the first start of its first coordinator, durable, and never sent anywhere. */
export async function loadCredentials(
  store: Store,
  defaults: { readonly clusterName: string; readonly createSwarmKey: () => string },
): Promise<ClusterCredentials> {
  const stored = collections.credentials.read(store, "cluster");
  if (stored) {
    const { clusterName, privateJwk, publicJwk, swarmKey } = stored;
    return { swarmKey, authority: { clusterName, privateJwk, publicJwk } };
  }
  const authority = await createAuthority(defaults.clusterName);
  const swarmKey = defaults.createSwarmKey();
  const record = { ...authority, swarmKey } as Parameters<typeof collections.credentials.put>[1];
  await store.write([collections.credentials.put("cluster", record)]);
  return { authority, swarmKey };
}
