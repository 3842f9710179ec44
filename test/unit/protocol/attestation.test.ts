import { createPublicKey, verify } from "node:crypto";
import { peerIdFromString } from "@libp2p/peer-id";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { attest, canonicalDigest, openEnvelope, type Signer } from "../../../protocol/attestation.ts";
import { type Envelope, envelopeSchema, withSignatures } from "../../../protocol/messages/attestation.ts";
import { identity } from "../../fixtures/identities.ts";

const schema = z.object({ said: z.string() });
const invalid = expect.objectContaining({ code: "SIGNATURE_INVALID" });
let signer: Signer;
let envelope: Envelope;

beforeAll(async () => {
  signer = await identity(1);
  envelope = await attest({ said: "it learns" }, signer);
});

/** What DSSE says is signed, written down once more: "DSSEv1 29 http://example.com/HelloWorld 11 hello world". */
function signedText({ payloadType, payload }: Envelope): string {
  const text = Buffer.from(payload, "base64").toString();
  return `DSSEv1 ${payloadType.length} ${payloadType} ${Buffer.byteLength(text)} ${text}`;
}

describe("an envelope", () => {
  test("says what was put in, and who signed it", async () => {
    expect(envelopeSchema.parse(envelope)).toEqual(envelope);
    const { statement, signers } = await openEnvelope(envelope, schema);
    expect(statement).toEqual({ said: "it learns" });
    expect(signers).toEqual([signer.peerId]);
  });

  test("is verified by others, who know DSSE and Ed25519 and none of this code", () => {
    const { publicKey } = peerIdFromString(signer.peerId) as { publicKey: { raw: Uint8Array } };
    const x = Buffer.from(publicKey.raw).toString("base64url");
    const key = createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x } });
    const signature = Buffer.from(envelope.signatures[0]!.sig, "base64");
    expect(verify(null, Buffer.from(signedText(envelope)), key, signature)).toBe(true);
  });

  test("is refused when a bit of what it says, of its signature or of its signer is another", async () => {
    const [{ keyid, sig }] = envelope.signatures as [Envelope["signatures"][number]];
    const other = await identity(2);
    const changed: Envelope[] = [
      { ...envelope, payload: Buffer.from('{"said":"it learned"}').toString("base64") },
      { ...envelope, signatures: [{ keyid, sig: `${sig[0] === "A" ? "B" : "A"}${sig.slice(1)}` }] },
      { ...envelope, signatures: [{ keyid, sig: sig.slice(0, 40) }] },
      { ...envelope, signatures: [{ keyid: other.peerId, sig }] },
      { ...envelope, signatures: [{ keyid: "1".repeat(50), sig }] },
      {
        ...envelope,
        signatures: [
          { keyid, sig },
          { keyid: other.peerId, sig },
        ],
      },
    ];
    for (const each of changed) await expect(openEnvelope(each, schema)).rejects.toEqual(invalid);
  });

  test("is refused when it says something of another kind, or nothing", async () => {
    await expect(openEnvelope(envelope, z.object({ told: z.string() }))).rejects.toEqual(invalid);
    await expect(openEnvelope(await attest({}, signer), schema)).rejects.toEqual(invalid);
  });

  test("takes the signatures of others under the same, once each, and of no other statement", async () => {
    const second = await attest({ said: "it learns" }, await identity(2));
    const both = withSignatures(envelope, second);
    expect((await openEnvelope(both, schema)).signers).toHaveLength(2);
    expect(withSignatures(both, second)).toEqual(both);
    const elsewhere = await attest({ said: "it does not" }, await identity(3));
    expect(withSignatures(both, elsewhere)).toEqual(both);
  });
});

test("the digest of a value does not depend on the order of its keys, and does on everything else", () => {
  const turned = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(turned)
      : typeof value === "object" && value !== null
        ? Object.fromEntries(
            Object.entries(value)
              .toReversed()
              .map(([key, each]) => [key, turned(each)]),
          )
        : value;
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(canonicalDigest(turned(value))).toBe(canonicalDigest(value));
      expect(canonicalDigest([value])).not.toBe(canonicalDigest(value));
    }),
  );
});
