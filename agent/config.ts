import type { EngineName } from "../protocol/job-spec.ts";
import type { Labels } from "../protocol/needs.ts";

/** Everything that one agent is told from outside; scripts/commands/agent.ts gathers it from flags and environment. */
export interface AgentConfig {
  /** Identity, credentials and artefacts. */
  readonly dataPath: string;
  /** For people; unique in a cluster by custom, not by force. */
  readonly name: string;
  /** libp2p; port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  /** HTTP predictions. */
  readonly gateway: { readonly host: string; readonly port: number };
  /** Needed at the first start only. */
  readonly token: string | undefined;
  readonly engine: EngineName;
  /** The Python that runs jobs' scripts; undefined where none may run. */
  readonly python: string | undefined;
  /** What a trainer may take of this machine's memory; all of it unless told. */
  readonly memoryLimitBytes?: number;
  /** Jobs may ask for agents that have them. */
  readonly labels: Labels;
  readonly logLevel: string;
  /** How long the first joining may take; a member that was in before waits for ever. */
  readonly joinTimeoutMs: number;
}
