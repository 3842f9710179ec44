import { RingfoldError } from "../../../protocol/errors.ts";
import type { TrainingPoint } from "../../../protocol/messages/job.ts";
import type { ArtefactStore, NamedReference } from "../../artefact/store.ts";
import type { Trainee } from "../trainee.ts";

/**
 * Writes a job's checkpoints to the agent's artefact store, keeps the last ones, and finds them again after a restart. Each
 * stands under a name of its own; a new one takes the name of the oldest.
 */
export class Checkpointer {
  readonly #options: CheckpointerOptions;

  constructor(options: CheckpointerOptions) {
    this.#options = options;
  }

  /** Whether one of the last `stepCount` steps, up to `step`, asks for one: states exist at synchronization points only. */
  isDue(step: number, stepCount: number): boolean {
    const { everySteps } = this.#options;
    return Math.floor(step / everySteps) > Math.floor((step - stepCount) / everySteps);
  }

  /** Durable when it resolves; only then are those removed whose place it takes. Returns the digest. */
  async save(trainee: Pick<Trainee, "encodeState">, { generation, point }: Moment): Promise<string> {
    const { step, hash } = point;
    return this.#put(await trainee.encodeState(), { step, written: { generation, hash } });
  }

  /** Whether the newest checkpoint that can be read has replaced the state: one before a damaged one is better than none. */
  async restore(trainee: Pick<Trainee, "restoreState">): Promise<boolean> {
    for (const { digest } of this.#kept()) {
      try {
        await trainee.restoreState(this.#options.store.get(digest));
        return true;
      } catch (error) {
        if (!(error instanceof RingfoldError && error.code.startsWith("ARTEFACT_"))) throw error;
      }
    }
    return false;
  }

  /**
   * Goes on from a checkpoint that was fetched into the store, unless `trainee` is as far: from then on it is one of ours.
   * @throws RingfoldError ARTEFACT_MISSING | ARTEFACT_CORRUPT
   */
  async adopt(
    trainee: Pick<Trainee, "restoreState" | "encodeState" | "point">,
    { digest, step }: NamedReference,
  ): Promise<void> {
    if (trainee.point().step >= step) return;
    await trainee.restoreState(this.#options.store.get(digest));
    await this.#put(await trainee.encodeState(), { step }); // the same bytes, and so the same artefact, under a name
  }

  async #put(state: Uint8Array, reference: Omit<NamedReference, "digest">): Promise<string> {
    const { store } = this.#options;
    const kept = this.#kept();
    const digest = await store.put(state);
    // Those of this step or later are of a life that the job has gone back from.
    const past = kept.filter(({ step }) => step >= reference.step);
    const { name } = past.shift() ?? this.#freeOrOldest(kept);
    await store.setName(name, { digest, ...reference });
    for (const one of past) await store.removeName(one.name);
    const named = new Set(this.#kept().map((one) => one.digest));
    for (const one of kept) if (!named.has(one.digest)) await store.remove(one.digest);
    return digest;
  }

  /** Newest first: the job may have gone back, so what a later generation has written is newer, whatever its step. */
  #kept(): Kept[] {
    const found = this.#names().flatMap((name) => {
      const reference = this.#options.store.resolveName(name);
      return reference ? [{ name, ...reference }] : [];
    });
    const newest = Math.max(...found.map(({ written }) => written?.generation ?? 0));
    // One that says nothing was fetched to go on from, or is of an earlier release: its step decides.
    const generationOf = ({ written }: Kept) => written?.generation ?? newest;
    return found.sort((a, b) => generationOf(b) - generationOf(a) || b.step - a.step);
  }

  #freeOrOldest(kept: readonly Kept[]): { readonly name: string } {
    const free = this.#names().find((name) => kept.every((one) => one.name !== name));
    return free === undefined ? kept.at(-1)! : { name: free };
  }

  #names(): string[] {
    const { jobId, keepLast } = this.#options;
    return Array.from({ length: keepLast }, (_, i) => `checkpoint/${jobId}${i === 0 ? "" : `/${i}`}`);
  }
}

/** When a checkpoint is written, and of what. */
export interface Moment {
  readonly generation: number;
  readonly point: TrainingPoint;
}

interface Kept extends NamedReference {
  readonly name: string;
}

export interface CheckpointerOptions {
  readonly jobId: string;
  readonly store: ArtefactStore;
  readonly everySteps: number;
  readonly keepLast: number;
}
