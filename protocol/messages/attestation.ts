import { z } from "zod";
import { digestSchema, peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import { metricsSchema } from "./model.ts";

/** What agents and the cluster's authority sign: in-toto statements in DSSE envelopes, which tools of that world read too. protocol/attestation.ts seals and opens them. */

export const statementType = "https://in-toto.io/Statement/v1";
export const statementMediaType = "application/vnd.in-toto+json";

const base64Schema = z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/, "not base64");

/** Source: DSSE v1.0.2, envelope.md. A `keyid` is the peer id of the signer, which an Ed25519 public key can be read from. */
export const envelopeSchema = z.object({
  payloadType: z.literal(statementMediaType),
  payload: base64Schema.max(limits.statementBytes),
  signatures: z
    .array(z.object({ keyid: peerIdSchema, sig: base64Schema.max(128) }))
    .min(1)
    .max(limits.signaturesKept),
});
export type Envelope = z.infer<typeof envelopeSchema>;

/** Two envelopes of one statement as one, with the signatures of both. */
export function withSignatures(one: Envelope, other: Envelope): Envelope {
  if (one.payload !== other.payload) return one;
  const known = new Set(one.signatures.map(({ keyid }) => keyid));
  const more = other.signatures.filter(({ keyid }) => !known.has(keyid));
  return { ...one, signatures: [...one.signatures, ...more].slice(0, limits.signaturesKept) };
}

/** Source: in-toto attestation framework, statement v1. */
const statement = <Type extends string, Predicate extends z.ZodType>(
  predicateType: Type,
  predicate: Predicate,
) =>
  z.object({
    _type: z.literal(statementType),
    subject: z
      .array(z.object({ name: z.string().max(128), digest: z.object({ sha256: digestSchema }) }))
      .length(1),
    predicateType: z.literal(predicateType),
    predicate,
  });

export const versionPredicateType = "urn:ringfold:training:1";
/** A rank's word on the weights that it ended with. Nothing in it is of one rank alone, so that all of them sign the same bytes. */
export const versionStatementSchema = statement(
  versionPredicateType,
  z.object({
    job: z.object({
      id: z.string().max(64),
      generation: z.number().int().positive(),
      /** Of the job's configuration as the agent was given it, as canonical JSON. */
      configuration: digestSchema,
    }),
    data: digestSchema,
    /** Of the description of the model, as canonical JSON. */
    model: digestSchema,
    /** The version whose weights it began with. */
    from: z.string().max(128).nullable(),
    seed: z.number(),
    steps: z.number().int().nonnegative(),
    parameterHash: digestSchema,
    weightsBytes: z.number().int().nonnegative(),
    metrics: z.object({
      accuracy: z.number().nullable(),
      loss: z.number(),
      further: metricsSchema,
      testExamples: z.number().int().nonnegative(),
      /** Of the tables, as canonical JSON, where there are some. */
      tables: digestSchema.optional(),
    }),
  }),
);
export type VersionStatement = z.infer<typeof versionStatementSchema>;

export const datasetPredicateType = "urn:ringfold:preparation:1";
/** Of the agent in whose store a data set was prepared. The subject is its manifest. */
export const datasetStatementSchema = statement(
  datasetPredicateType,
  z.object({
    source: z.object({
      kind: z.string().max(32),
      bytes: z.number().int().nonnegative(),
      digest: digestSchema,
    }),
    /** Of the pipeline as it was asked for, as canonical JSON. */
    pipeline: digestSchema,
  }),
);
export type DatasetStatement = z.infer<typeof datasetStatementSchema>;

export const registrationPredicateType = "urn:ringfold:registration:1";
/** The authority's word on what only the coordinator knows of a version. The subject is `name@N` and the manifest's digest. */
export const registrationStatementSchema = statement(
  registrationPredicateType,
  z.object({
    cluster: z.string().max(64),
    job: z.string().max(64),
    /** Everyone who ever was a rank of it. */
    peers: z.array(peerIdSchema),
    generations: z.number().int().positive(),
    registeredAtMs: z.number(),
  }),
);
export type RegistrationStatement = z.infer<typeof registrationStatementSchema>;
