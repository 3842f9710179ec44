import { z } from "zod";
import { nameSchema, peerIdSchema, roleSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import { labelsSchema } from "../needs.ts";
import type { Conversation, Topic } from "../ports.ts";
import { holdingsSchema } from "./artefact.ts";
import { linkSchema } from "./link.ts";
import { servedSchema } from "./served.ts";

/**
 * Peers speak with each other when their ranges overlap. Raised when a message changes its meaning. 2: what ranks sum at each step is
 * three numbers longer, and a model may be cut where several tensors cross.
 */
export const protocolRange = { min: 2, max: 2 } as const;

const gpuSchema = z.object({
  name: z.string().max(255),
  /** All of it; null where the driver does not tell. */
  memoryBytes: z.number().int().nonnegative().nullable(),
  /** That is memory of its own, and all that an engine can use there: not so where a processor's GPU takes of the machine's. */
  isDedicated: z.literal(true).optional(),
});
export type Gpu = z.infer<typeof gpuSchema>;

/** The one that jobs are matched with: engines take the fastest. */
export const largestGpu = (gpus: readonly Gpu[]): Gpu | undefined =>
  gpus.toSorted((one, other) => (other.memoryBytes ?? 0) - (one.memoryBytes ?? 0))[0];

/** Most memory that an engine may find on a GPU with memory of its own; undefined where no driver tells. */
export function dedicatedMemory(gpus: readonly Gpu[]): number | undefined {
  return largestGpu(gpus.filter(({ isDedicated }) => isDedicated))?.memoryBytes ?? undefined;
}

/** What an agent of an earlier release does not tell has a default. */
export const capabilitiesSchema = z.object({
  hostname: z.string().max(255),
  platform: z.string().max(64),
  cpuModel: z.string().max(255),
  cpuCount: z.number().int().positive(),
  memoryBytes: z.number().nonnegative(),
  /** What a training may take of it: of its container, or as much as its owner gives. */
  usableMemoryBytes: z.number().nonnegative().nullable().default(null),
  /** Of the machine, whether an engine uses them or not. */
  gpus: z.array(gpuSchema).max(16).default([]),
  /** Name of the GPU that the engine uses, or null. */
  gpu: z.string().max(255).nullable(),
  engine: z.string().max(32),
  engineReason: z.string().max(1_000),
  /** More engines that a job may ask for by name, but for those that come with Ringfold. */
  engines: z.array(z.string().max(32)).max(8).default([]),
  /** Multiply-adds of a fixed small matrix product, measured at start: GFLOP/s. */
  gflops: z.number().nonnegative(),
  /** Whether its owner lets jobs bring scripts. */
  scripts: z.boolean().default(false),
  /** Of its owner. */
  labels: labelsSchema.default({}),
});
export type Capabilities = z.infer<typeof capabilitiesSchema>;

export const helloSchema = z.object({
  peerId: peerIdSchema,
  name: nameSchema,
  release: z.string().max(32),
  protocolMin: z.number().int(),
  protocolMax: z.number().int(),
  addresses: z.array(z.string().max(512)).max(32),
  /** Base URL of the peer's HTTP gateway, or null when it runs none. */
  gatewayUrl: z.string().max(512).nullable(),
  capabilities: capabilitiesSchema,
  /** Random at each start: two live starts of one identity are a copied data folder. */
  incarnation: z.string().max(64),
});
export type Hello = z.infer<typeof helloSchema>;

/** First word to the coordinator: a token the first time, the membership certificate after that. */
export const join: Conversation<JoinRequest, JoinResponse> = {
  protocol: "/ringfold/membership/join/1",
  request: z.object({
    hello: helloSchema,
    token: z.string().max(8_192),
    membership: z.string().max(8_192).nullable(),
  }),
  response: z.object({
    membership: z.string().max(8_192),
    roles: z.array(roleSchema),
    term: z.number().int().nonnegative(),
    /** Everything that the newcomer missed: current deployments' routes arrive by `serving/routes`. */
    clusterName: nameSchema,
  }),
  requestBytesMax: limits.gossipMessageBytes,
  responseBytesMax: limits.gossipMessageBytes,
  timeoutMs: limits.requestTimeoutMs,
};
export interface JoinRequest {
  hello: Hello;
  token: string;
  membership: string | null;
}
export interface JoinResponse {
  membership: string;
  roles: z.infer<typeof roleSchema>[];
  term: number;
  clusterName: string;
}

/** A clean goodbye; answered when nothing depends on the leaver any more. */
export const leave: Conversation<{ reason: string; incarnation: string }, { released: boolean }> = {
  protocol: "/ringfold/membership/leave/1",
  /** A goodbye of an earlier life may come late, and must not send the present one away. */
  request: z.object({ reason: z.string().max(1_000), incarnation: z.string().max(64) }),
  response: z.object({ released: z.boolean() }),
  requestBytesMax: 4_096,
  responseBytesMax: 4_096,
  timeoutMs: limits.requestTimeoutMs,
};

export const presenceSchema = z.object({
  hello: helloSchema,
  /** Certificate by the cluster authority; listeners check it, so a stranger's fact is dropped. */
  membership: z.string().max(8_192),
  /** Grows by one a message of one incarnation; older facts are dropped. */
  sequence: z.number().int().nonnegative(),
  load: z.object({
    /** Cores of the machine that were busy over the last interval; 2 is two cores. */
    cpu: z.number().nonnegative(),
    /** Of the agent process. */
    residentBytes: z.number().nonnegative(),
  }),
  /** Artefacts that this peer can hand out. */
  holdings: holdingsSchema,
  /** Links of this peer as it measured them. */
  links: z.array(linkSchema).max(limits.linksTold),
  /** What its gateway has answered, of deployments in a rollout. */
  served: z.array(servedSchema).max(limits.servedTold).default([]),
});
export type Presence = z.infer<typeof presenceSchema>;

export const presenceTopic: Topic<Presence> = { name: "/ringfold/presence/1", schema: presenceSchema };
