import { createHash } from "node:crypto";
import { z } from "zod";
import { decode, encode } from "../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../protocol/errors.ts";
import { digestSchema, roleSchema } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import { auditEventSchema } from "../protocol/messages/audit.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import { aliasRecordSchema } from "./decide/alias.ts";
import { datasetRecordSchema } from "./decide/dataset.ts";
import { decisionEntrySchema } from "./decide/decision.ts";
import { documentRecordSchema } from "./decide/document.ts";
import { jobRecordSchema } from "./decide/job-record.ts";
import { memberRecordSchema } from "./decide/member.ts";
import { deploymentRecordSchema } from "./decide/placement.ts";
import { quotaRecordSchema } from "./decide/queue-facts.ts";
import { retentionRuleSchema } from "./decide/retention.ts";
import { rolloutRecordSchema } from "./decide/rollout-record.ts";
import { sweepRecordSchema } from "./decide/sweep-record.ts";
import { versionRecordSchema } from "./decide/version.ts";

/**
 * One kind of record in the store: keys `kind/id`, values msgpack, validated when read.
 * @throws RingfoldError STORE_FAILED on a record that is not what it should be
 */
export interface Collection<T> {
  read(store: Pick<Store, "get">, id: string): T | undefined;
  /** It changes whenever the record does, and is the same on every coordinator. */
  revision(store: Pick<Store, "get">, id: string): string;
  readAll(store: Pick<Store, "list">): T[];
  put(id: string, value: T): StoreWrite;
  remove(id: string): StoreWrite;
}

function collection<T>(kind: string, schema: z.ZodType<T>): Collection<T> {
  const parse = (key: string, bytes: Uint8Array): T => {
    try {
      return decode(bytes, schema, limits.artefactBytes);
    } catch (cause) {
      const { message } = toRingfoldError(cause);
      throw new RingfoldError("STORE_FAILED", `record ${key} is damaged: ${message}`, { key }, { cause });
    }
  };
  return {
    read: (store, id) => {
      const key = `${kind}/${id}`;
      const bytes = store.get(key);
      return bytes && parse(key, bytes);
    },
    revision: (store, id) =>
      createHash("sha256")
        .update(store.get(`${kind}/${id}`) ?? "")
        .digest("base64url")
        .slice(0, 22),
    readAll: (store) => [...store.list(`${kind}/`)].map(({ key, value }) => parse(key, value)),
    put: (id, value) => ({ key: `${kind}/${id}`, value: encode(value) }),
    remove: (id) => ({ key: `${kind}/${id}`, value: undefined }),
  };
}

const curveSchema = z.array(
  z.object({ step: z.number(), loss: z.number(), accuracy: z.number().nullable() }),
);

export const credentialsSchema = z.object({
  clusterName: z.string(),
  swarmKey: z.string(),
  privateJwk: z.record(z.string(), z.unknown()),
  publicJwk: z.record(z.string(), z.unknown()),
});

const sharedSecretsSchema = z.object({
  identityKey: z.instanceof(Uint8Array) as z.ZodType<Uint8Array>,
  operatorToken: z.string(),
});

/** A join token that was made: what it is for, not the token. */
const tokenRecordSchema = z.object({
  id: z.string(),
  role: roleSchema,
  expiresAtMs: z.number(),
  revokedAtMs: z.number().nullable(),
});

/** A request with an Idempotency-Key, and what it made. */
const requestRecordSchema = z.object({
  /** Digest of the key. */
  id: digestSchema,
  fingerprint: digestSchema,
  /** Of the decision that it led to. */
  sequence: z.number().int().positive(),
  event: auditEventSchema,
});
export type RequestRecord = z.infer<typeof requestRecordSchema>;

export const collections = {
  credentials: collection("credentials", credentialsSchema),
  /** With several coordinators: what makes them one peer to the agents, and one to operators. */
  shared: collection("shared", sharedSecretsSchema),
  tokens: collection("token", tokenRecordSchema),
  counters: collection("counter", z.number().int()),
  members: collection("member", memberRecordSchema),
  jobs: collection("job", jobRecordSchema),
  sweeps: collection("sweep", sweepRecordSchema),
  quotas: collection("quota", quotaRecordSchema),
  /** By model. */
  retention: collection("retention", retentionRuleSchema),
  curves: collection("curve", curveSchema),
  versions: collection("version", versionRecordSchema),
  /** By what they are aliases of. */
  aliases: {
    model: collection("alias", aliasRecordSchema),
    pipeline: collection("pipeline-alias", aliasRecordSchema),
    config: collection("config-alias", aliasRecordSchema),
  },
  datasets: collection("dataset", datasetRecordSchema),
  /** Pipelines and job configurations, `kind/name/number`. */
  documents: collection("document", documentRecordSchema),
  deployments: collection("deployment", deploymentRecordSchema),
  /** By name of what is served. */
  rollouts: collection("rollout", rolloutRecordSchema),
  decisions: collection("decision", decisionEntrySchema),
  requests: collection("request", requestRecordSchema),
  /** `snapshot`: the last decision that is in the snapshot. */
  log: collection("log", z.number().int().nonnegative()),
} as const;

/** Kinds of records that only decisions change. Loss curves are measured, and secrets stay out of every log. */
const recordedKinds = new Set([
  ...["counter", "member", "token", "job", "sweep", "quota", "version", "dataset", "document"],
  ...["deployment", "rollout", "alias", "pipeline-alias", "config-alias", "retention"],
]);
export const isRecorded = (key: string): boolean => recordedKinds.has(key.slice(0, key.indexOf("/")));

/** Numbers in keys, so that byte order is number order. */
export const padded = (value: number): string => String(value).padStart(9, "0");
