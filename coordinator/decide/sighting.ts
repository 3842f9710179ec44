export type Verdict = "alive" | "suspect" | "dead";

/** What one look sees of a peer that has not left. */
export interface Sighting {
  readonly peerId: string;
  readonly name: string;
  /** Of its agent. */
  readonly life: string;
  /** Its socket stands. */
  readonly connected: boolean;
  /** Its socket has closed while it was heard, or others were: with that it is gone for sure. */
  readonly closed: boolean;
  readonly silentMs: number;
  readonly phi: number;
}

/** A change of what is thought of a peer. */
export interface Turn {
  readonly sighting: Sighting;
  readonly from: Verdict;
  readonly to: Verdict;
  /** Its silence is taken for our own trouble. */
  readonly isExcused: boolean;
}
