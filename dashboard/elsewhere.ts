import type { Readiness } from "../protocol/messages/api.ts";

interface Surroundings {
  /** What this page's own coordinator says of itself; undefined when it does not answer. */
  readonly readiness: () => Promise<Readiness | undefined>;
  /** Whether a coordinator answers there, leading or not. */
  readonly reaches: (url: string) => Promise<boolean>;
  /** Leaves for the page there. */
  readonly go: (url: string) => void;
}

/**
 * Where the page goes on when its own coordinator leads no more. One that stands by serves the page too, so whichever answers will do:
 * the page there goes on to the one that leads as soon as that is known.
 */
export class Elsewhere {
  readonly #own: string;
  readonly #surroundings: Surroundings;
  /** HTTP addresses of coordinators, as told while there was one. */
  #known: readonly string[] = [];
  #isLooking = false;

  constructor(own: string, surroundings: Surroundings) {
    this.#own = originOf(own);
    this.#surroundings = surroundings;
  }

  /** While there is somebody to ask. */
  async remember(): Promise<void> {
    this.#known = (await this.#surroundings.readiness())?.coordinators ?? this.#known;
  }

  /** The stream of views does not come. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { readiness, reaches, go } = this.#surroundings;
    try {
      const own = await readiness();
      if (own?.ready) return;
      const candidates = own ? [own.leader ?? ""] : this.#known;
      for (const url of candidates)
        if (originOf(url) !== this.#own && originOf(url) !== "" && (await reaches(url))) return go(url);
    } finally {
      this.#isLooking = false;
    }
  }
}

const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : "");
