import { createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { attest, canonicalDigest, type Signer } from "../../../protocol/attestation.ts";
import { registrationStatement } from "../../../protocol/registration.ts";
import { verifyExported } from "../../../scripts/commands/versions/verification.ts";
import { identity } from "../../fixtures/identities.ts";
import { manifestOf } from "../../fixtures/serving.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

const weights = Buffer.from("weights");
const plain = manifestOf([4, 2]);
const manifest = {
  ...plain,
  weights: { ...plain.weights, digest: createHash("sha256").update(weights).digest("hex") },
};
const numbered = { version: 2, digest: canonicalDigest(manifest), manifest };
let authority: Signer;
let folder: string;

const write = (file: string, value: unknown) => writeFileSync(join(folder, file), JSON.stringify(value));

/** A version in a folder as `ringfold versions export` writes it, which no rank has signed. */
beforeEach(async () => {
  authority = await identity(9);
  folder = temporaryFolder();
  writeFileSync(join(folder, "weights.safetensors"), weights);
  write("version.json", { format: 1, ...numbered });
  const statement = registrationStatement(numbered, { cluster: "lab", registeredAtMs: 0 });
  write("registration.json", await attest(statement, authority));
});

test("the authority's word is verified with nothing but the folder, and told", async () => {
  for (const asked of [undefined, authority.peerId]) {
    const { text, registration, verified } = await verifyExported(folder, asked);
    expect(registration).toEqual({ authorities: [authority.peerId], cluster: "lab", registeredAtMs: 0 });
    expect(verified).toBe(false); // by its ranks
    expect(text).toMatch(/registered +1970-01-01T00:00:00.000Z in lab, trained by \d+ agents? over \d+ gen/);
    expect(text).toContain(`authority ${authority.peerId}`);
  }
});

test("another authority than the one that is asked for is refused, and so is another number", async () => {
  const stranger = (await identity(1)).peerId;
  await expect(verifyExported(folder, stranger)).rejects.toMatchObject({ code: "SIGNATURE_INVALID" });
  write("version.json", { format: 1, ...numbered, version: 3 });
  await expect(verifyExported(folder, undefined)).rejects.toMatchObject({
    ...{ code: "SIGNATURE_INVALID", data: { differing: ["name"] } },
  });
});

test("a version of an earlier release is shown as without, unless an authority is asked for", async () => {
  rmSync(join(folder, "registration.json"));
  const { text, registration } = await verifyExported(folder, undefined);
  expect(registration).toBeNull();
  expect(text).toContain("no authority has signed it: it is of an earlier release");
  await expect(verifyExported(folder, authority.peerId)).rejects.toMatchObject({ code: "SIGNATURE_INVALID" });
});
