import type { ErrorCode } from "../../../protocol/errors.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import type { WireTensor } from "../../../protocol/messages/serving.ts";

/** What the agent and its shard host process say to each other. Both run the same release, so nothing is validated. */

export type ShardCommand =
  | {
      readonly kind: "load";
      readonly key: string;
      readonly model: ModelDescription;
      readonly fromLayer: number;
      readonly toLayer: number;
      /** safetensors, the whole version. */
      readonly weights: Uint8Array;
    }
  | { readonly kind: "unload"; readonly key: string }
  | { readonly kind: "infer"; readonly key: string; readonly input: WireTensor };

/** agent -> process. Each command is answered once, by its id. */
export type ToShardProcess =
  | { readonly kind: "command"; readonly id: number; readonly command: ShardCommand }
  | { readonly kind: "close" };

export interface InferResult {
  readonly output: WireTensor;
  /** Inside the engine, without queue and transfer. */
  readonly computeMs: number;
}

/** process -> agent. */
export type FromShardProcess =
  | { readonly kind: "opened"; readonly engine: string; readonly reason: string }
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: "done"; readonly id: number; readonly result: InferResult | null }
  | { readonly kind: "failed"; readonly id: number; readonly code: ErrorCode; readonly message: string };
