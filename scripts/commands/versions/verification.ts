import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { z } from "zod";
import { canonicalDigest } from "../../../protocol/attestation.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { parseJson } from "../../../protocol/http.ts";
import { shortPeer } from "../../../protocol/ids.ts";
import { type Envelope, envelopeSchema } from "../../../protocol/messages/attestation.ts";
import type { VersionManifest } from "../../../protocol/messages/model.ts";
import { verifyVersion } from "../../../protocol/provenance.ts";
import { type Registration, verifyRegistration } from "../../../protocol/registration.ts";
import { connectApi } from "../api-client.ts";
import type { VersionSelector } from "../arguments.ts";
import type { CommandContext } from "../command.ts";
import { formatFacts } from "../present/table.ts";
import { exportedFiles, exportedVersionSchema } from "./exported-version.ts";

export interface Verification {
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  /** False where nobody has signed it. What is signed wrongly is an error. */
  readonly verified: boolean;
  /** Peer ids. */
  readonly signers: readonly string[];
  /** What the cluster's authority says; null of a version of an earlier release. */
  readonly registration: Registration | null;
  /** Whether the bytes of the weights were at hand and are those that the manifest names. */
  readonly weightsRead: boolean;
}

type Told = Verification & { readonly text: string };

interface Subject {
  readonly version: number;
  readonly digest: string;
  readonly manifest: VersionManifest;
  readonly attestation: Envelope | undefined;
  readonly registration: Envelope | undefined;
  /** Key id of the authority whose word is asked for. */
  readonly authority: string | undefined;
}

/** A version of the cluster, from what its coordinator says. @throws RingfoldError SIGNATURE_INVALID | NOT_FOUND */
export async function verifyRegistered(
  { name, selector }: VersionSelector,
  context: CommandContext,
  authority: string | undefined,
): Promise<Told> {
  const detail = await (await connectApi(context)).version(name, selector);
  const { version, digest, manifest, attestation, registration } = detail;
  return verify({ version, digest, manifest, attestation, registration, authority }, false);
}

/**
 * A version that was exported, with nothing but its folder.
 * @throws RingfoldError SIGNATURE_INVALID | ARTEFACT_CORRUPT | FILE_NOT_FOUND | DATA_INVALID
 */
export async function verifyExported(from: string, authority: string | undefined): Promise<Told> {
  const folder = resolve(from);
  const { version, digest, manifest } = await readJson(
    join(folder, exportedFiles.version),
    exportedVersionSchema,
  );
  const [attestation, registration] = await Promise.all([
    readEnvelope(join(folder, exportedFiles.attestation)),
    readEnvelope(join(folder, exportedFiles.registration)),
  ]);
  const weights = await digestOfFile(join(folder, exportedFiles.weights));
  if (weights !== manifest.weights.digest) {
    const message = `${exportedFiles.weights} has other bytes than the manifest names`;
    throw new RingfoldError("ARTEFACT_CORRUPT", message, { path: folder, digest: weights });
  }
  return verify({ version, digest, manifest, attestation, registration, authority }, true);
}

async function verify(subject: Subject, weightsRead: boolean): Promise<Told> {
  const { version, digest, manifest, attestation } = subject;
  const { name } = manifest;
  const registration = await verifiedRegistration(subject);
  const about = { name, version, digest, weightsRead, registration };
  const facts: [string, string][] = [
    ["version", `${name}@${version}`],
    ["manifest", digest],
    ["weights", `${manifest.weights.digest}${weightsRead ? ", as they are here" : ""}`],
    ["data", manifest.lineage.dataDigest],
    ...registrationFacts(manifest, registration),
  ];
  if (!attestation) {
    const text = formatFacts([...facts, ["signed by", "nobody: it is of an earlier release"]]);
    return { ...about, verified: false, signers: [], text };
  }
  // Versions that nobody has signed may be named by other digests: those of earlier releases were.
  if (canonicalDigest(manifest) !== digest)
    throw new RingfoldError("SIGNATURE_INVALID", "the manifest is not the one that its digest names");
  const { signers, configuration } = await verifyVersion(manifest, attestation);
  const text = formatFacts([
    ...facts,
    ["configuration", configuration],
    ["signed by", signers.map((peerId) => `${shortPeer(peerId)} (${peerId})`).join(", ")],
    [
      "verdict",
      `what ${manifest.lineage.jobId} came to, as ${signers.length === 1 ? "its rank has" : "its ranks have"} signed`,
    ],
  ]);
  return { ...about, verified: true, signers, text };
}

/** Null of a version whose registration nobody has signed, unless somebody had to. @throws RingfoldError SIGNATURE_INVALID */
async function verifiedRegistration({
  registration,
  authority,
  ...version
}: Subject): Promise<Registration | null> {
  if (registration) return verifyRegistration(version, registration, { authority });
  if (authority === undefined) return null;
  const message = `no authority has signed that ${version.manifest.name}@${version.version} was registered`;
  throw new RingfoldError("SIGNATURE_INVALID", message, { authority });
}

function registrationFacts(
  { lineage: { peers, generations } }: VersionManifest,
  registration: Registration | null,
): [string, string][] {
  if (!registration) return [["registered by", "no authority has signed it: it is of an earlier release"]];
  const { authorities, cluster, registeredAtMs } = registration;
  const workers = `${peers.length} agent${peers.length === 1 ? "" : "s"}`;
  const over = `${generations} generation${generations === 1 ? "" : "s"}`;
  return [
    [
      "registered",
      `${new Date(registeredAtMs).toISOString()} in ${cluster}, trained by ${workers} over ${over}`,
    ],
    ["registered by", `authority ${authorities.join(", ")}`],
  ];
}

async function readEnvelope(path: string): Promise<Envelope | undefined> {
  return existsSync(path) ? await readJson(path, envelopeSchema) : undefined;
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw toRingfoldError(cause, "FILE_NOT_FOUND");
  });
  const result = schema.safeParse(parseJson(text));
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new RingfoldError("DATA_INVALID", `${path}: ${issue?.path.join(".") || "it"}: ${issue?.message}`, {
    path,
  });
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(path), hash);
  } catch (cause) {
    throw toRingfoldError(cause, "FILE_NOT_FOUND");
  }
  return hash.digest("hex");
}
