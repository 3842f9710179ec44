import { z } from "zod";
import { decode, encode } from "../protocol/codec.ts";
import { digestSchema, peerIdSchema, roleSchema } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import { eventViewSchema } from "../protocol/messages/api.ts";
import { versionManifestSchema } from "../protocol/messages/model.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import { jobRecordSchema } from "./decide/job-record.ts";
import { deploymentRecordSchema } from "./decide/placement.ts";

/** One kind of record in the store: keys `kind/id`, values msgpack, validated when read. */
export interface Collection<T> {
  read(store: Store, id: string): T | undefined;
  readAll(store: Store): T[];
  put(id: string, value: T): StoreWrite;
  remove(id: string): StoreWrite;
}

function collection<T>(kind: string, schema: z.ZodType<T>): Collection<T> {
  const parse = (bytes: Uint8Array): T => decode(bytes, schema, limits.artefactBytes);
  return {
    read: (store, id) => {
      const bytes = store.get(`${kind}/${id}`);
      return bytes && parse(bytes);
    },
    readAll: (store) => [...store.list(`${kind}/`)].map(({ value }) => parse(value)),
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

const curveSchema = z.array(z.object({ step: z.number(), loss: z.number(), accuracy: z.number() }));

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
