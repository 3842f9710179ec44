import { z } from "zod";
import { digestSchema, peerIdSchema } from "../ids.ts";

/** Where a version comes from and what became of it, as a graph. */

export const lineageNodeSchema = z.object({
  /** `version:digits@2`, `job:job-3`, `dataset:iris@1`, `data:<digest>`, `pipeline:credit@1`, `config:digits@3`, `deployment:4`, `sweep:sweep-1` */
  id: z.string(),
  kind: z.enum(["pipeline", "config", "data", "dataset", "sweep", "job", "version", "deployment"]),
  /** For people: `digits@2`. */
  name: z.string(),
  /** Of the content, where it has one: a manifest, a configuration, a pipeline. */
  digest: digestSchema.nullable(),
  /** In words: its state, how good it is. */
  detail: z.string(),
  atMs: z.number().nullable(),
  /** Agents whose signatures on it have been verified. */
  signers: z.array(peerIdSchema),
  /** Of a version: key ids of the authorities that have signed its registration; none of an earlier release. */
  authorities: z.array(peerIdSchema).optional(),
});
export type LineageNode = z.infer<typeof lineageNodeSchema>;

/** `to` came of `from`: the data that a job was trained on, the version that it made. */
const lineageEdgeSchema = z.object({
  from: z.string(),
  to: z.string(),
  relation: z.enum(["prepared", "configured", "trained", "began", "tried", "made", "served"]),
});
export type LineageEdge = z.infer<typeof lineageEdgeSchema>;

export const lineageSchema = z.object({
  /** The node that was asked for. */
  root: z.string(),
  nodes: z.array(lineageNodeSchema),
  edges: z.array(lineageEdgeSchema),
});
export type Lineage = z.infer<typeof lineageSchema>;
