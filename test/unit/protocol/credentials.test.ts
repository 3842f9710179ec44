import fc from "fast-check";
import { importJWK, SignJWT } from "jose";
import { beforeAll, expect, test } from "vitest";
import {
  type ClusterAuthority,
  createAuthority,
  issueMembership,
  issueToken,
  readToken,
  verifyMembership,
  verifyToken,
} from "../../../protocol/credentials.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const nowMs = 1_700_000_000_000;
const expiresAtMs = nowMs + 60_000;
const coordinator = memoryPeerId(9);
const addresses = ["/ip4/10.0.0.1/tcp/4001"];
let authority: ClusterAuthority;
let stranger: ClusterAuthority;
let token: string;

beforeAll(async () => {
  authority = await createAuthority("lab");
  stranger = await createAuthority("lab");
  token = await tokenBy(authority);
});

const tokenBy = (by: ClusterAuthority) =>
  issueToken(by, { role: "worker", swarmKey: "key", coordinator, addresses, expiresAtMs });
const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("a token tells a newcomer how to reach the cluster, and the coordinator what it grants", async () => {
  const expected = { iss: "lab", role: "worker", swarmKey: "key", coordinator, addresses };
  expect(await readToken(token, nowMs)).toMatchObject(expected);
  expect(await verifyToken(authority.publicJwk, token, nowMs)).toMatchObject(expected);
});

test("the token holds no private key", async () => {
  const claims = await readToken(token, nowMs);
  expect(new Set(Object.keys(claims.authority))).toEqual(new Set(["crv", "kty", "x"]));
  expect(JSON.stringify(claims)).not.toContain(authority.privateJwk.d);
});

test("a token ends at its second", async () => {
  await expect(readToken(token, expiresAtMs - 1_000)).resolves.toBeDefined();
  await expect(readToken(token, expiresAtMs)).rejects.toMatchObject({
    code: "TOKEN_EXPIRED",
    message: expect.stringMatching(/has expired at \d{4}-\S+Z; the clock here says \d{4}-\S+Z$/),
  });
  await expect(verifyToken(authority.publicJwk, token, expiresAtMs)).rejects.toMatchObject({
    code: "TOKEN_EXPIRED",
  });
});

test("another cluster's token is refused by the coordinator even under the same name", async () => {
  const foreign = await tokenBy(stranger);
  await expect(verifyToken(authority.publicJwk, foreign, nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
  });
});

test("a token with one character changed grants nothing else than before", async () => {
  const claims = await readToken(token, nowMs);
  const alphabet = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."];
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom(...alphabet), async (at, character) => {
      fc.pre(token[at] !== character);
      const mangled = token.slice(0, at) + character + token.slice(at + 1);
      const outcome = await verifyToken(authority.publicJwk, mangled, nowMs).catch((error) => error.code);
      // base64url's last character carries spare bits: there a change may leave the signature as it was.
      if (at === token.length - 1 && outcome !== "TOKEN_INVALID") expect(outcome).toEqual(claims);
      else expect(outcome).toBe("TOKEN_INVALID");
    }),
  );
});

test("an unsigned token is refused", async () => {
  const payload = token.split(".")[1]!;
  for (const alg of ["none", "None", "HS256"]) {
    const forged = `${encoded({ alg, typ: "ringfold-join+jwt" })}.${payload}.`;
    await expect(readToken(forged, nowMs)).rejects.toMatchObject({ code: "TOKEN_INVALID" });
    await expect(verifyToken(authority.publicJwk, forged, nowMs)).rejects.toMatchObject({
      code: "TOKEN_INVALID",
    });
  }
});

test("a token signed with the public key as a shared secret is refused", async () => {
  const secret = new TextEncoder().encode(authority.publicJwk.x);
  const claims = await readToken(token, nowMs);
  const forged = await new SignJWT({ ...claims })
    .setProtectedHeader({ alg: "HS256", typ: "ringfold-join+jwt" })
    .sign(secret);
  await expect(verifyToken(authority.publicJwk, forged, nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
  });
});

test("anything that is not a token is refused with TOKEN_INVALID", async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.base64String(), fc.constant("a.b.c")), async (text) => {
      await expect(readToken(text, nowMs)).rejects.toMatchObject({ code: "TOKEN_INVALID" });
    }),
  );
});

test("a membership certificate is good for its peer and authority only", async () => {
  const member = { peerId: memoryPeerId(1), roles: ["worker", "server"] as const };
  const certificate = await issueMembership(authority, member);
  expect(await verifyMembership(authority.publicJwk, certificate, member.peerId, nowMs)).toMatchObject({
    sub: member.peerId,
    roles: member.roles,
  });
  await expect(
    verifyMembership(authority.publicJwk, certificate, memoryPeerId(2), nowMs),
  ).rejects.toMatchObject({ code: "NOT_A_MEMBER" });
  await expect(verifyMembership(stranger.publicJwk, certificate, member.peerId, nowMs)).rejects.toMatchObject(
    { code: "TOKEN_INVALID" },
  );
});

test("a join token is no membership, nor the other way round", async () => {
  const certificate = await issueMembership(authority, { peerId: memoryPeerId(1), roles: ["worker"] });
  await expect(verifyToken(authority.publicJwk, certificate, nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
  });
  await expect(verifyMembership(authority.publicJwk, token, coordinator, nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
  });
});

test("the type in the header decides, not the claims: a paper for another purpose is refused", async () => {
  const signed = async (typ: string) =>
    new SignJWT({ ...(await readToken(token, nowMs)), roles: ["worker"] })
      .setProtectedHeader({ alg: "EdDSA", typ })
      .setSubject(memoryPeerId(1))
      .sign(await importJWK(authority.privateJwk, "EdDSA"));
  for (const typ of ["jwt", "ringfold-join", "ringfold-member+jwt"]) {
    await expect(verifyToken(authority.publicJwk, await signed(typ), nowMs)).rejects.toMatchObject({
      code: "TOKEN_INVALID",
    });
  }
  const joining = await signed("ringfold-join+jwt");
  await expect(verifyToken(authority.publicJwk, joining, nowMs)).resolves.toBeDefined();
  await expect(verifyMembership(authority.publicJwk, joining, memoryPeerId(1), nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
  });
});
