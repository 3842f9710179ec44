import type { Trainee } from "../trainee.ts";
import type { Checkpointer, Moment } from "./checkpointer.ts";
import type { CheckpointWriter } from "./writer-thread.ts";

/** How the checkpoints of a job come to the disk while it trains. */
export interface CheckpointSaving {
  isDue(step: number, stepCount: number): boolean;
  /**
   * Training may go on when it resolves.
   * @param onDurable once it is on the disk, with its digest
   * @throws RingfoldError STORE_FAILED, also when that is what the one before has come to
   */
  save(
    trainee: Pick<Trainee, "encodeState">,
    moment: Moment,
    onDurable: (digest: string) => void,
  ): Promise<void>;
  /** Until all are on the disk. @throws RingfoldError STORE_FAILED */
  settle(): Promise<void>;
  /** What is under way comes to its end. */
  close(): Promise<void>;
}

/** Training waits until they are on the disk: small states, and stages, which give each other copies at a boundary. */
export const savingInTurn = (checkpointer: Pick<Checkpointer, "isDue" | "save">): CheckpointSaving => ({
  isDue: (step, stepCount) => checkpointer.isDue(step, stepCount),
  save: async (trainee, moment, onDurable) => onDurable(await checkpointer.save(trainee, moment)),
  settle: async () => {},
  close: async () => {},
});

/** @param writer where the states are large */
export const savingBy = (
  checkpointer: Pick<Checkpointer, "isDue" | "save">,
  writer: CheckpointWriter | undefined,
): CheckpointSaving => (writer ? new SavingBeside(checkpointer, writer) : savingInTurn(checkpointer));

/**
 * Training waits for a copy of its state alone, and another thread brings that to the disk. One at a time: when the next is
 * due before the last is there, training waits for that, so a slow disk costs speed and not memory.
 */
export class SavingBeside implements CheckpointSaving {
  readonly #checkpointer: Pick<Checkpointer, "isDue">;
  readonly #writer: CheckpointWriter;
  /** Never rejects: whoever comes next is told. */
  #underWay: Promise<void> = Promise.resolve();
  #failure: { readonly cause: unknown } | undefined;

  constructor(checkpointer: Pick<Checkpointer, "isDue">, writer: CheckpointWriter) {
    this.#checkpointer = checkpointer;
    this.#writer = writer;
  }

  isDue(step: number, stepCount: number): boolean {
    return this.#checkpointer.isDue(step, stepCount);
  }

  async save(
    trainee: Pick<Trainee, "encodeState">,
    moment: Moment,
    onDurable: (digest: string) => void,
  ): Promise<void> {
    await this.settle();
    const state = await trainee.encodeState();
    this.#underWay = this.#writer.write(state, moment).then(onDurable, (cause: unknown) => {
      this.#failure = { cause };
    });
  }

  async settle(): Promise<void> {
    await this.#underWay;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure.cause;
  }

  async close(): Promise<void> {
    await this.#underWay;
    await this.#writer.close();
  }
}
