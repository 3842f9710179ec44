/** Who waits for a preparation, and may end it. */
export interface PreparationWatch {
  readonly signal: AbortSignal;
  /** What begins now, for people. */
  stage(name: string): void;
  /** Of the present stage. */
  progress(done: number, total: number): void;
}
