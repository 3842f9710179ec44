import assert from "node:assert";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { ArtefactStore } from "../../artefact/store.ts";
import { Checkpointer, type Moment } from "../checkpoints/checkpointer.ts";
import type { Trainee } from "../trainee.ts";
import type { Column } from "./column.ts";

interface StageCheckpointerOptions {
  readonly jobId: string;
  readonly stage: number;
  readonly store: ArtefactStore;
  readonly checkpoint: JobSpec["checkpoint"];
  /** Of the generation that trains now; undefined between two. */
  readonly column: () => Column | undefined;
}

/**
 * Checkpoints of one stage. While the stages train, each also gives a copy of its own to a neighbour in its column: when
 * the last agent of a stage dies, another one finds the state of that stage there.
 *
 * At least the last two are kept: a stage may have written one that another did not come to, and all can only go back to a
 * step that every stage has.
 */
export class StageCheckpointer implements Pick<Checkpointer, "isDue" | "save"> {
  readonly #options: StageCheckpointerOptions;
  readonly #own: Checkpointer;

  constructor(options: StageCheckpointerOptions) {
    this.#options = options;
    this.#own = this.#of(options.stage);
  }

  isDue(step: number, stepCount: number): boolean {
    return this.#own.isDue(step, stepCount);
  }

  /** Durable here, and with the neighbour, when it resolves. Returns the digest. */
  async save(trainee: Pick<Trainee, "encodeState">, moment: Moment): Promise<string> {
    const bytes = await trainee.encodeState();
    const digest = await this.#own.save({ encodeState: async () => bytes }, moment);
    const column = this.#options.column();
    if (column) await this.#exchange(column, bytes, moment);
    return digest;
  }

  restore(trainee: Pick<Trainee, "restoreState">): Promise<boolean> {
    return this.#own.restore(trainee);
  }

  /** A stage's copy goes to the one after it; that of the last to the one before it. */
  async #exchange(column: Column, bytes: Uint8Array, { generation, point }: Moment): Promise<void> {
    const never = new AbortController().signal; // bounded by the links, which end with the generation
    const length = Float64Array.of(bytes.length);
    const hash = Buffer.from(point.hash, "hex");
    const give = (to: "before" | "after") => {
      column.send(to, "totals", length);
      column.send(to, "bytes", hash);
      column.send(to, "bytes", bytes);
    };
    const take = async (from: "before" | "after", stage: number) => {
      const theirs = new Float64Array(1);
      await column.receive(from, "totals", theirs, never);
      assert(theirs[0]! > 0 && theirs[0]! <= limits.artefactBytes);
      const theirHash = Buffer.alloc(hash.length);
      await column.receive(from, "bytes", theirHash, never);
      const copy = new Uint8Array(theirs[0]!);
      await column.receive(from, "bytes", copy, never);
      const at = { step: point.step, hash: theirHash.toString("hex") };
      await this.#of(stage).save({ encodeState: async () => copy }, { generation, point: at });
    };
    column.hopTimeoutMs = limits.firstStepTimeoutMs; // a neighbour may write to a slow disk
    give(column.isLast ? "before" : "after");
    if (!column.isFirst) await take("before", column.stage - 1);
    if (column.stage === column.stageCount - 2) await take("after", column.stageCount - 1);
    await column.sum(new Float64Array(1), never); // all have written: a checkpoint that is reported has its copy
  }

  #of(stage: number): Checkpointer {
    const { jobId, store, checkpoint } = this.#options;
    const keepLast = Math.max(2, checkpoint.keepLast);
    return new Checkpointer({ jobId: `${jobId}/stage-${stage}`, store, ...checkpoint, keepLast });
  }
}
