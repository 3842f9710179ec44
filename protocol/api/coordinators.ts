import { isLoopbackHost } from "../http.ts";

/**
 * Where the coordinators of a cluster answer, and which one to ask: the one that answered last. One of them leads; the others
 * stand by, and say who does.
 */
export class Coordinators {
  readonly #urls: readonly string[];
  #index = 0;
  /** The leader as the only one that was given has told. */
  #told: string | undefined;
  /** Told, and did not answer there: it may be an address that only they reach. */
  readonly #unreachable = new Set<string>();

  /** @param addresses with commas, as a person writes them */
  constructor(addresses: string) {
    this.#urls = addresses.split(",").map((address) => address.trim());
  }

  /** The one to ask. */
  get url(): string {
    return this.#told ?? this.#urls[this.#index]!;
  }

  /** Whether there is more than one to ask. */
  get areSeveral(): boolean {
    return this.#urls.length > 1 || this.#told !== undefined;
  }

  answered(): void {
    this.#unreachable.clear();
  }

  /** The one at `url` does not lead: the next is to be asked. @param leader as it tells; of several that were given it must be one */
  turnFrom(url: string, leader?: unknown): void {
    if (url !== this.url) return; // another request has turned already
    if (typeof leader === "string" && URL.canParse(leader)) {
      const index = this.#urls.findIndex((given) => isSame(given, leader));
      if (index >= 0 && index !== this.#index) {
        this.#index = index;
        return;
      }
      if (this.#urls.length === 1 && this.#isCredible(leader, url)) {
        this.#told = leader;
        return;
      }
    }
    if (this.#told !== undefined) this.#unreachable.add(this.#told);
    this.#told = undefined;
    this.#index = (this.#index + 1) % this.#urls.length;
  }

  toString(): string {
    return this.#urls.join(", ");
  }

  /** The operator's token goes there too: never by a way that is less safe, nor to whoever has that address on this machine. */
  #isCredible(leader: string, toldBy: string): boolean {
    if (isSame(leader, toldBy) || this.#unreachable.has(leader)) return false;
    const [there, here] = [new URL(leader), new URL(toldBy)];
    if (there.protocol !== here.protocol) return false;
    return !isLoopbackHost(there.hostname) || isLoopbackHost(here.hostname);
  }
}

const isSame = (one: string, other: string): boolean =>
  URL.canParse(one) && URL.canParse(other) && new URL(one).href === new URL(other).href;
