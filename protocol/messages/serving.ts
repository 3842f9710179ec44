import { z } from "zod";
import { nameSchema, peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { envelopeSchema } from "./attestation.ts";
import { versionManifestSchema } from "./model.ts";

/** One contiguous run of layers `[fromLayer, toLayer)` of a version. */
export const shardSchema = z.object({
  shardIndex: z.number().int().nonnegative(),
  fromLayer: z.number().int().nonnegative(),
  toLayer: z.number().int().positive(),
  /** Peers that should host it; a peer becomes routable when it reports the shard ready. */
  replicas: z.array(z.object({ peerId: peerIdSchema, ready: z.boolean() })).max(64),
});
export type Shard = z.infer<typeof shardSchema>;

/** A deployment as the coordinator decided it; agents cache it, so predictions go on without a coordinator. */
export const placementSchema = z.object({
  /** Number of the deployment, never used again: two of one name stand side by side while one replaces the other. */
  deployment: z.number().int().positive(),
  name: nameSchema,
  version: z.number().int().positive(),
  /** Grows with every change of this deployment; agents keep the newest. */
  revision: z.number().int().positive(),
  manifest: versionManifestSchema,
  /** Signatures under the manifest; none of versions of earlier releases. */
  attestation: envelopeSchema.optional(),
  /** The authority's word on the version; none of versions of earlier releases. */
  registration: envelopeSchema.optional(),
  shards: z.array(shardSchema).min(1).max(64),
  /** Requests go to the live deployment of a name; one that is not live yet only loads. */
  live: z.boolean(),
  /** Of a candidate in a rollout: percent of the requests that go to it instead of the live one. */
  weight: z.number().int().min(0).max(100).optional(),
});
export type Placement = z.infer<typeof placementSchema>;

const okSchema = z.object({ ok: z.literal(true) });

/**
 * coordinator -> every agent: all placements of the cluster. An agent loads the shards that name it, unloads those that
 * no longer do, and routes by the rest. Idempotent.
 */
export const placeShards: Conversation<
  { term: number; revision: number; placements: Placement[] },
  { ok: true }
> = {
  protocol: "/ringfold/serving/place/1",
  request: z.object({
    term: z.number().int().nonnegative(),
    /** Revision of the whole table. */
    revision: z.number().int().nonnegative(),
    placements: z.array(placementSchema).max(256),
  }),
  response: okSchema,
  requestBytesMax: limits.controlMessageBytes,
  responseBytesMax: 1_024,
  timeoutMs: limits.requestTimeoutMs,
};

/** agent -> coordinator: a shard is loaded and answers, or could not be loaded; true of one life of the agent only. */
export const reportShard: Conversation<ShardReport & { life: string }, { ok: true }> = {
  protocol: "/ringfold/serving/report/1",
  request: z.object({
    deployment: z.number().int().positive(),
    name: nameSchema,
    version: z.number().int().positive(),
    shardIndex: z.number().int().nonnegative(),
    state: z.enum(["ready", "failed"]),
    detail: z.string().max(2_000),
    /** The agent's incarnation. */
    life: z.string().max(64),
  }),
  response: okSchema,
  requestBytesMax: 16_384,
  responseBytesMax: 1_024,
  timeoutMs: limits.requestTimeoutMs,
};
export interface ShardReport {
  deployment: number;
  name: string;
  version: number;
  shardIndex: number;
  state: "ready" | "failed";
  detail: string;
}

/** A float tensor between shards: shape with batch first, data little-endian f32. */
export const wireTensorSchema = z.object({
  shape: z.array(z.number().int().nonnegative()).min(1).max(8),
  data: z.instanceof(Uint8Array) as z.ZodType<Uint8Array>,
});
export type WireTensor = z.infer<typeof wireTensorSchema>;

/** agent -> agent: one hop of a prediction, through one shard. */
export const inferShard: Conversation<InferShardRequest, { output: WireTensor; computeMs: number }> = {
  protocol: "/ringfold/serving/infer/1",
  request: z.object({
    deployment: z.number().int().positive(),
    name: nameSchema,
    version: z.number().int().positive(),
    shardIndex: z.number().int().nonnegative(),
    input: wireTensorSchema,
  }),
  response: z.object({ output: wireTensorSchema, computeMs: z.number().nonnegative() }),
  requestBytesMax: limits.tensorBytes + limits.envelopeBytes,
  responseBytesMax: limits.tensorBytes + limits.envelopeBytes,
  timeoutMs: limits.predictTimeoutMs,
};
export interface InferShardRequest {
  deployment: number;
  name: string;
  version: number;
  shardIndex: number;
  input: WireTensor;
}
