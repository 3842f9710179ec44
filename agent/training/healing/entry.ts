import type { CatchUp } from "./catch-up.ts";

/** How a rank enters a ring of which some ranks still have to heal. */
export interface Entry {
  /** Where the ring begins; this rank's own state is there, too, unless it heals. */
  readonly step: number;
  readonly healingCount: number;
  /** Among the ranks that have the state, in ring order; those that heal have no place. */
  readonly place: { readonly rank: number; readonly worldSize: number };
  /** Of a rank that heals. */
  readonly catchUp?: CatchUp;
  /** Overwrites the state with a copied one. @throws RingfoldError when it is not what it should be */
  readonly restore: (state: Uint8Array) => Promise<void>;
  /** This rank has healed. */
  readonly onHealed: () => void;
  /** All have: every rank contributes from the next step on. */
  readonly onAllHealed: () => void;
}
