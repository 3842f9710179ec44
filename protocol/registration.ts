import { canonicalDigest, openEnvelope, type SignatureCheck } from "./attestation.ts";
import { RingfoldError } from "./errors.ts";
import { shortPeer } from "./ids.ts";
import {
  type Envelope,
  type RegistrationStatement,
  registrationPredicateType,
  registrationStatementSchema,
  statementType,
} from "./messages/attestation.ts";
import type { VersionManifest } from "./messages/model.ts";

/**
 * What the cluster's authority says of a version: under which name and number it stands, who took part in its job, over how many
 * generations, and when it was registered. Ranks cannot know that; what they know they sign themselves (provenance.ts).
 */

export interface NumberedVersion {
  readonly version: number;
  /** Of the manifest. */
  readonly digest: string;
  readonly manifest: VersionManifest;
}

export const registrationStatement = (
  { version, digest, manifest }: NumberedVersion,
  at: Pick<RegistrationStatement["predicate"], "cluster" | "registeredAtMs">,
): RegistrationStatement => {
  const { jobId, peers, generations } = manifest.lineage;
  return {
    _type: statementType,
    subject: [{ name: `${manifest.name}@${version}`, digest: { sha256: digest } }],
    predicateType: registrationPredicateType,
    predicate: {
      ...{ cluster: at.cluster, job: jobId, peers, generations },
      registeredAtMs: at.registeredAtMs,
    },
  };
};

/** Who says that it was registered, where and when. */
export interface Registration {
  /** Key ids of authorities: more than one after the key was changed. */
  readonly authorities: readonly string[];
  readonly cluster: string;
  readonly registeredAtMs: number;
}

/**
 * Whether a version is what an authority has registered.
 *
 * @param trust.authority key id of the authority whose word counts; unless told, anybody's, who is then to be looked at
 * @throws RingfoldError SIGNATURE_INVALID, naming what differs
 */
export async function verifyRegistration(
  version: NumberedVersion,
  registration: Envelope,
  trust: { readonly authority?: string | undefined; readonly isSignedBy?: SignatureCheck } = {},
): Promise<Registration> {
  const { statement, signers } = await openEnvelope(
    registration,
    registrationStatementSchema,
    trust.isSignedBy,
  );
  const { cluster, registeredAtMs } = statement.predicate;
  const differing = differences(statement, registrationStatement(version, { cluster, registeredAtMs }));
  if (canonicalDigest(version.manifest) !== version.digest) differing.push("manifest");
  if (differing.length > 0)
    throw new RingfoldError(
      "SIGNATURE_INVALID",
      `the authority has registered something else: ${differing.join(", ")}`,
      { differing },
    );
  const { authority } = trust;
  if (authority !== undefined && !signers.includes(authority)) {
    const message = `${shortPeer(signers[0]!)} has registered it, and is not the authority of this cluster`;
    throw new RingfoldError("SIGNATURE_INVALID", message, { authority, signers });
  }
  return { authorities: signers, cluster, registeredAtMs };
}

function differences(said: RegistrationStatement, expected: RegistrationStatement): string[] {
  const [subject] = said.subject;
  const [wanted] = expected.subject;
  return [
    ...(subject!.name === wanted!.name ? [] : ["name"]),
    ...(subject!.digest.sha256 === wanted!.digest.sha256 ? [] : ["digest"]),
    ...(["job", "peers", "generations"] as const).filter(
      (key) => canonicalDigest(said.predicate[key]) !== canonicalDigest(expected.predicate[key]),
    ),
  ];
}
