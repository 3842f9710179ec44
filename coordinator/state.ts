import { z } from "zod";
import { decode, encode } from "../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../protocol/errors.ts";
import { digestSchema, peerIdSchema, roleSchema } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import { eventViewSchema } from "../protocol/messages/api.ts";
import { versionManifestSchema } from "../protocol/messages/model.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import { jobRecordSchema } from "./decide/job-record.ts";
import { deploymentRecordSchema } from "./decide/placement.ts";

/**
 * One kind of record in the store: keys `kind/id`, values msgpack, validated when read.
 * @throws RingfoldError STORE_FAILED on a record that is not what it should be
 */
export interface Collection<T> {
  read(store: Store, id: string): T | undefined;
  readAll(store: Store): T[];
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
    readAll: (store) => [...store.list(`${kind}/`)].map(({ key, value }) => parse(key, value)),
    put: (id, value) => ({ key: `${kind}/${id}`, value: encode(value) }),
    remove: (id) => ({ key: `${kind}/${id}`, value: undefined }),
  };
}

export const memberRecordSchema = z.object({
  peerId: peerIdSchema,
  roles: z.array(roleSchema),
  membership: z.string(),
  admittedAtMs: z.number(),
});
export type MemberRecord = z.infer<typeof memberRecordSchema>;

export const versionRecordSchema = z.object({
  version: z.number().int().positive(),
  /** SHA-256 of the manifest's msgpack bytes. */
  digest: digestSchema,
  manifest: versionManifestSchema,
});
export type VersionRecord = z.infer<typeof versionRecordSchema>;

const curveSchema = z.array(
  z.object({ step: z.number(), loss: z.number(), accuracy: z.number().nullable() }),
);

export const credentialsSchema = z.object({
  clusterName: z.string(),
  swarmKey: z.string(),
  privateJwk: z.record(z.string(), z.unknown()),
  publicJwk: z.record(z.string(), z.unknown()),
});

export const collections = {
  credentials: collection("credentials", credentialsSchema),
  counters: collection("counter", z.number().int()),
  members: collection("member", memberRecordSchema),
  jobs: collection("job", jobRecordSchema),
  curves: collection("curve", curveSchema),
  versions: collection("version", versionRecordSchema),
  deployments: collection("deployment", deploymentRecordSchema),
  events: collection("event", eventViewSchema),
} as const;

/** Numbers in keys, so that byte order is number order. */
export const padded = (value: number): string => String(value).padStart(9, "0");
