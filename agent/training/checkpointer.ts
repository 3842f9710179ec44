import { RingfoldError } from "../../protocol/errors.ts";
import type { ArtefactStore } from "../artefact/store.ts";
import type { Trainee } from "./trainee.ts";

/** Writes a job's checkpoints to the agent's artefact store and finds the newest one again after a restart. */
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

  /** Durable when it resolves; only then is the one before it removed. Returns the digest. */
  async save(trainee: Pick<Trainee, "encodeState">, step: number): Promise<string> {
    const { store } = this.#options;
    const previous = store.resolveName(this.#name);
    const digest = await store.put(await trainee.encodeState());
    await store.setName(this.#name, { digest, step });
    if (previous && previous.digest !== digest) await store.remove(previous.digest);
    return digest;
  }

  /** Whether the newest checkpoint has replaced the state. A damaged one is passed over: a peer may have a good one. */
  async restore(trainee: Pick<Trainee, "restoreState">): Promise<boolean> {
    const { store } = this.#options;
    const found = store.resolveName(this.#name);
    if (!found) return false;
    try {
      await trainee.restoreState(store.get(found.digest));
      return true;
    } catch (error) {
      if (error instanceof RingfoldError && error.code.startsWith("ARTEFACT_")) return false;
      throw error;
    }
  }

  get #name(): string {
    return `checkpoint/${this.#options.jobId}`;
  }
}

interface CheckpointerOptions {
  readonly jobId: string;
  readonly store: ArtefactStore;
  readonly everySteps: number;
}
