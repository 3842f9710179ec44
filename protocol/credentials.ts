import {
  decodeJwt,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  errors as joseErrors,
  jwtVerify,
  SignJWT,
} from "jose";
import { z } from "zod";
import { RingfoldError } from "./errors.ts";
import { nameSchema, peerIdSchema, type Role, roleSchema } from "./ids.ts";

/**
 * Who may come in. The cluster authority (an Ed25519 key that never leaves the coordinator) signs two kinds of JWT
 * (RFC 7519, EdDSA of RFC 8037, by the library jose):
 *
 * - a join token, for a person to hand to a new machine; it carries what a stranger needs to reach the cluster,
 * - a membership certificate, for one peer id, which members show each other.
 */
export interface ClusterAuthority {
  readonly clusterName: string;
  /** Private Ed25519 key in JWK form; `publicJwk` is its public half. */
  readonly privateJwk: JWK;
  readonly publicJwk: JWK;
}

const algorithm = "EdDSA";

export async function createAuthority(clusterName: string): Promise<ClusterAuthority> {
  const pair = await generateKeyPair(algorithm, { crv: "Ed25519", extractable: true });
  return {
    clusterName,
    privateJwk: await exportJWK(pair.privateKey),
    publicJwk: await exportJWK(pair.publicKey),
  };
}

const jwkSchema = z.object({ kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: z.string().max(64) });

export const tokenClaimsSchema = z.object({
  iss: nameSchema,
  /** What it can be taken back by; tokens of an earlier release have none. */
  jti: z.string().max(64).exactOptional(),
  role: roleSchema,
  exp: z.number(),
  /** libp2p pre-shared key file, as text. */
  swarmKey: z.string().max(256),
  coordinator: peerIdSchema,
  /** Multiaddrs of the coordinator; on one LAN mDNS finds it without them. */
  addresses: z.array(z.string().max(512)).max(32),
  authority: jwkSchema,
});
export type TokenClaims = z.infer<typeof tokenClaimsSchema>;

export async function issueToken(
  authority: ClusterAuthority,
  grant: Pick<TokenClaims, "role" | "swarmKey" | "coordinator" | "addresses"> & {
    readonly expiresAtMs: number;
    readonly id?: string;
  },
): Promise<string> {
  const { expiresAtMs, id, ...claims } = grant;
  return new SignJWT({ ...claims, ...(id !== undefined && { jti: id }), authority: authority.publicJwk })
    .setProtectedHeader({ alg: algorithm, typ: "ringfold-join+jwt" })
    .setIssuer(authority.clusterName)
    .setExpirationTime(Math.floor(expiresAtMs / 1000))
    .sign(await importJWK(authority.privateJwk, algorithm));
}

/**
 * Reads a token without the authority's key, as a newcomer must; the coordinator verifies it. Its own embedded public
 * key is checked against the signature, so a token mangled by copy and paste is noticed before anything is dialled.
 * @throws RingfoldError TOKEN_INVALID | TOKEN_EXPIRED
 */
export async function readToken(token: string, nowMs: number): Promise<TokenClaims> {
  const claims = tokenClaimsSchema.safeParse(decodeUnverified(token));
  if (!claims.success) throw new RingfoldError("TOKEN_INVALID", "this is not a Ringfold join token");
  return verifyToken(claims.data.authority, token, nowMs);
}

/** @throws RingfoldError TOKEN_INVALID | TOKEN_EXPIRED */
export async function verifyToken(publicJwk: JWK, token: string, nowMs: number): Promise<TokenClaims> {
  return verified(publicJwk, token, "ringfold-join+jwt", tokenClaimsSchema, nowMs);
}

const membershipSchema = z.object({ iss: nameSchema, sub: peerIdSchema, roles: z.array(roleSchema).min(1) });
export type Membership = z.infer<typeof membershipSchema>;

export async function issueMembership(
  authority: ClusterAuthority,
  member: { readonly peerId: string; readonly roles: readonly Role[] },
): Promise<string> {
  return new SignJWT({ roles: member.roles })
    .setProtectedHeader({ alg: algorithm, typ: "ringfold-member+jwt" })
    .setIssuer(authority.clusterName)
    .setSubject(member.peerId)
    .sign(await importJWK(authority.privateJwk, algorithm));
}

/** @throws RingfoldError TOKEN_INVALID when it was not signed by this authority for this peer */
export async function verifyMembership(
  publicJwk: JWK,
  certificate: string,
  peerId: string,
  nowMs: number,
): Promise<Membership> {
  const membership = await verified(publicJwk, certificate, "ringfold-member+jwt", membershipSchema, nowMs);
  if (membership.sub !== peerId) {
    throw new RingfoldError("NOT_A_MEMBER", "the membership certificate belongs to another peer", { peerId });
  }
  return membership;
}

function decodeUnverified(token: string): unknown {
  try {
    return decodeJwt(token);
  } catch {
    return undefined; // the schema then says what is wrong
  }
}

async function verified<T>(
  publicJwk: JWK,
  token: string,
  typ: string,
  schema: z.ZodType<T>,
  nowMs: number,
): Promise<T> {
  try {
    const key = await importJWK(publicJwk, algorithm);
    const { payload } = await jwtVerify(token, key, {
      algorithms: [algorithm],
      typ,
      currentDate: new Date(nowMs),
    });
    return schema.parse(payload);
  } catch (cause) {
    if (cause instanceof joseErrors.JWTExpired) {
      // Of two clocks that differ by an hour the one here may be the wrong one.
      const [ended, now] = [1_000 * (cause.payload.exp ?? 0), nowMs].map((ms) => new Date(ms).toISOString());
      const message = `the join token has expired at ${ended}; the clock here says ${now}`;
      throw new RingfoldError("TOKEN_EXPIRED", message, {}, { cause });
    }
    throw new RingfoldError("TOKEN_INVALID", "not signed by this cluster", {}, { cause });
  }
}
