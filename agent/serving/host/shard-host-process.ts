import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { type EngineName, engineNameSchema } from "../../../protocol/job-spec.ts";
import { decodeSafetensors } from "../../../protocol/safetensors.ts";
import { openEngine } from "../../engine/engine.ts";
import type { Engine, ModelShard } from "../../engine/port.ts";
import { fromWire, toWire } from "../wire-tensor.ts";
import type { FromShardProcess, InferResult, ShardCommand, ToShardProcess } from "./shard-host-messages.ts";

/**
 * The child process in which an agent's shards run: a crash or a long synchronous computation of the engine stays in
 * here. Its one argument is the engine's name; everything else comes over the IPC channel.
 */

const shards = new Map<string, ModelShard>();

const say = (message: FromShardProcess): void => {
  // A closed channel means that the agent is gone; the `disconnect` handler ends this process.
  process.send?.(message, () => undefined);
};

async function run(engine: Engine, command: ShardCommand): Promise<InferResult | null> {
  switch (command.kind) {
    case "load": {
      const { key, model, fromLayer, toLayer, weights } = command;
      // A plain Uint8Array, whatever came: slices of a Buffer are views into its pool.
      const bytes = new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
      const { tensors } = decodeSafetensors(bytes);
      const shard = engine.openShard(model, { fromLayer, toLayer }, tensors);
      shards.get(key)?.close();
      shards.set(key, shard);
      return null;
    }
    case "unload":
      shards.get(command.key)?.close();
      shards.delete(command.key);
      return null;
    case "infer": {
      const shard = shards.get(command.key);
      if (shard === undefined) throw new RingfoldError("NOT_FOUND", `shard ${command.key} is not loaded`);
      const input = fromWire(command.input);
      const startedMs = performance.now();
      const output = await shard.infer(input);
      return { output: toWire(output), computeMs: performance.now() - startedMs };
    }
  }
}

async function answer(engine: Engine, id: number, command: ShardCommand): Promise<void> {
  try {
    say({ kind: "done", id, result: await run(engine, command) });
  } catch (cause) {
    const { code, message } = toRingfoldError(cause);
    say({ kind: "failed", id, code, message });
  }
}

function close(engine: Engine): void {
  for (const shard of shards.values()) shard.close();
  shards.clear();
  engine.close();
  process.exit(0);
}

async function main(prefer: EngineName): Promise<void> {
  // Ctrl-C and systemd signal the whole group; the agent drains first and then ends this process itself.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => undefined);
  // The agent is gone, however it died: nobody is left to answer.
  process.on("disconnect", () => process.exit(0));
  let engine: Engine;
  try {
    engine = await openEngine({ prefer });
  } catch (cause) {
    const { code, message } = toRingfoldError(cause, "ENGINE_UNAVAILABLE");
    process.send?.({ kind: "refused", code, message } satisfies FromShardProcess, () => process.exit(1));
    return;
  }
  process.on("message", (message: ToShardProcess) => {
    if (message.kind === "close") close(engine);
    else void answer(engine, message.id, message.command);
  });
  say({ kind: "opened", engine: engine.name, reason: engine.reason });
}

await main(engineNameSchema.parse(process.argv[2]));
