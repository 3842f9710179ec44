import { generateKeyPair } from "@libp2p/crypto/keys";
import { beforeAll, expect, test } from "vitest";
import { attest, canonicalDigest, keyIdOf, type Signer, signerOfJwk } from "../../../protocol/attestation.ts";
import { createAuthority } from "../../../protocol/credentials.ts";
import {
  type Envelope,
  envelopeSchema,
  registrationStatementSchema,
  withSignatures,
} from "../../../protocol/messages/attestation.ts";
import {
  type NumberedVersion,
  registrationStatement,
  verifyRegistration,
} from "../../../protocol/registration.ts";
import { identity } from "../../fixtures/identities.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { manifestOf } from "../../fixtures/serving.ts";

const manifest = manifestOf([4, 2]);
const version: NumberedVersion = { version: 3, digest: canonicalDigest(manifest), manifest };
const at = { cluster: "lab", registeredAtMs: 1_764_000_000_000 };
let authority: Signer;
let keyId: string;
let registration: Envelope;

beforeAll(async () => {
  const { privateJwk, publicJwk } = await createAuthority("lab");
  authority = signerOfJwk(privateJwk);
  keyId = keyIdOf(publicJwk);
  registration = await attest(registrationStatement(version, at), authority);
});

const invalid = (data: object) => expect.objectContaining({ code: "SIGNATURE_INVALID", data });

test("a version that the authority has registered is what it says; the key that signs certificates says so", async () => {
  expect(keyId).toBe(authority.peerId);
  expect(envelopeSchema.parse(registration)).toEqual(registration);
  expect(await verifyRegistration(version, registration, { authority: keyId })).toEqual({
    ...{ authorities: [keyId], ...at },
  });
});

test("whatever of it was altered is named", async () => {
  const { lineage } = manifest;
  const withManifest = (changed: typeof manifest): NumberedVersion => ({
    ...{ version: 3, manifest: changed, digest: canonicalDigest(changed) },
  });
  const altered: [NumberedVersion, string[]][] = [
    [{ ...version, version: 4 }, ["name"]],
    [withManifest({ ...manifest, name: "letters" }), ["name", "digest"]],
    [withManifest({ ...manifest, lineage: { ...lineage, jobId: "job-9" } }), ["digest", "job"]],
    [withManifest({ ...manifest, lineage: { ...lineage, peers: [keyId] } }), ["digest", "peers"]],
    [withManifest({ ...manifest, lineage: { ...lineage, generations: 99 } }), ["digest", "generations"]],
    [withManifest({ ...manifest, createdAtMs: 77 }), ["digest"]],
    [{ ...version, digest: digestOf("9") }, ["digest", "manifest"]],
    [{ ...version, manifest: { ...manifest, createdAtMs: 77 } }, ["manifest"]],
  ];
  for (const [changed, differing] of altered)
    await expect(verifyRegistration(changed, registration), differing.join()).rejects.toThrowError(
      invalid({ differing }),
    );
});

test("no field of the statement can be written anew", async () => {
  const statement = registrationStatementSchema.parse(
    JSON.parse(Buffer.from(registration.payload, "base64").toString()),
  );
  const { predicate } = statement;
  const [subject] = statement.subject;
  const written: object[] = [
    { subject: [{ ...subject, name: "digits@4" }] },
    { subject: [{ ...subject, digest: { sha256: digestOf("9") } }] },
    ...Object.entries({ cluster: "other", job: "job-9", peers: [], generations: 99, registeredAtMs: 1 }).map(
      ([key, value]) => ({ predicate: { ...predicate, [key]: value } }),
    ),
  ];
  for (const change of written) {
    const payload = Buffer.from(JSON.stringify({ ...statement, ...change })).toString("base64");
    await expect(verifyRegistration(version, { ...registration, payload })).rejects.toThrowError(
      invalid({ peer: keyId }),
    );
  }
});

test("the good signature of somebody who is not the authority is none; unless asked, it is told who it was", async () => {
  const stranger = await identity(2);
  const signed = await attest(registrationStatement(version, at), stranger);
  await expect(verifyRegistration(version, signed, { authority: keyId })).rejects.toThrowError(
    invalid({ authority: keyId, signers: [stranger.peerId] }),
  );
  expect((await verifyRegistration(version, signed)).authorities).toEqual([stranger.peerId]);
});

test("after a change of the key both stand under it: who knows either believes it", async () => {
  const next = signerOfJwk((await createAuthority("lab")).privateJwk);
  const both = withSignatures(registration, await attest(registrationStatement(version, at), next));
  for (const known of [keyId, next.peerId])
    expect((await verifyRegistration(version, both, { authority: known })).authorities).toEqual([
      keyId,
      next.peerId,
    ]);
});

test("a key as libp2p has it and as jose has it is the same key", async () => {
  const key = await generateKeyPair("Ed25519");
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64url");
  const jwk = { d: text(key.raw.subarray(0, 32)), x: text(key.publicKey.raw) };
  expect(signerOfJwk(jwk).peerId).toBe(keyIdOf(jwk));
  const bytes = Buffer.from("what is signed");
  expect(await signerOfJwk(jwk).sign(bytes)).toEqual(await key.sign(bytes));
});
