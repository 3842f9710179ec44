import { RingfoldError } from "../../../protocol/errors.ts";
import type { CommandContext } from "../command.ts";

/** The agents that can be asked, in order; one that cannot be reached is left out from then on. */
export class Gateways {
  readonly #urls: string[];
  readonly #note: CommandContext["note"];

  private constructor(urls: string[], note: CommandContext["note"]) {
    this.#urls = urls;
    this.#note = note;
  }

  /**
   * @param only the one that a person named; else those that the coordinator names
   * @throws RingfoldError NO_REPLICA when no live agent has a gateway
   */
  static async find(context: CommandContext, only: string | undefined): Promise<Gateways> {
    if (only !== undefined) return new Gateways([only], context.note);
    const { connectApi } = await import("../api-client.ts");
    const peers = await (await connectApi(context)).peers();
    const urls = peers.flatMap(({ state, gatewayUrl }) =>
      state === "alive" && gatewayUrl !== null ? [gatewayUrl] : [],
    );
    if (urls.length > 0) return new Gateways(urls, context.note);
    throw new RingfoldError("NO_REPLICA", `none of ${peers.length} known agents is alive with a gateway`);
  }

  /** @throws what `question` throws, of the last one that could be asked */
  async ask<Answer>(question: (gatewayUrl: string) => Promise<Answer>): Promise<Answer> {
    for (;;) {
      const gatewayUrl = this.#urls[0];
      if (gatewayUrl === undefined) throw new RingfoldError("NO_REPLICA", "no gateway is left to ask");
      try {
        return await question(gatewayUrl);
      } catch (cause) {
        const elsewhere = cause instanceof RingfoldError && cause.code === "PEER_UNREACHABLE";
        if (!elsewhere || this.#urls.length === 1) throw cause;
        this.#note(`${cause.message}; asking the next`);
        this.#urls.shift();
      }
    }
  }
}
