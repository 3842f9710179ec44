import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";

export interface AdmissionBounds {
  /** What is admitted, for the error message: "predictions". */
  readonly what: string;
  readonly countMax: number;
  readonly bytesMax: number;
}

/** Bounds work that was let in and is not done yet, by number and by the memory that it holds. */
export class Admission {
  readonly #bounds: AdmissionBounds;
  #count = 0;
  #bytes = 0;

  constructor(bounds: AdmissionBounds) {
    this.#bounds = bounds;
  }

  /**
   * Lets one piece of work in; the returned function, called once, gives its room back.
   * @throws RingfoldError OVERLOADED. A single piece is never too large for an empty room: size limits are the caller's.
   */
  enter(bytes: number): () => void {
    const { what, countMax, bytesMax } = this.#bounds;
    if (this.#count >= countMax || (this.#count > 0 && this.#bytes + bytes > bytesMax)) {
      throw new RingfoldError(
        "OVERLOADED",
        `${this.#count} ${what} of ${this.#bytes} bytes are waiting already`,
        {
          count: this.#count,
          countMax,
          bytes: this.#bytes,
          bytesMax,
        },
      );
    }
    this.#count += 1;
    this.#bytes += bytes;
    let left = false;
    return () => {
      assert(!left, "admission left twice");
      left = true;
      this.#count -= 1;
      this.#bytes -= bytes;
    };
  }
}
