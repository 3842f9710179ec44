import { toRingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { ClusterNetwork, Conversation } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";

/** Something that the coordinator tells one agent about a job. */
export interface Command {
  readonly protocol: string;
  /** Protocols of waiting commands that this one makes pointless. */
  readonly replaces: readonly string[];
  readonly send: (network: ClusterNetwork, to: string) => Promise<unknown>;
}

export const commandOf = <Request>(
  conversation: Conversation<Request, { ok: true }>,
  request: Request,
  replaces: readonly { readonly protocol: string }[],
): Command => ({
  protocol: conversation.protocol,
  replaces: replaces.map(({ protocol }) => protocol),
  send: (network, to) => network.request(to, conversation, request),
});

interface Waiting {
  readonly command: Command;
  /** Of the agent's life that it is meant for; undefined when the agent was not known yet. */
  readonly incarnation: string | undefined;
  readonly sinceMs: number;
}

/** One job on one peer: its commands leave in order, the next one when the one before it was answered. */
interface Lane {
  readonly peerId: string;
  readonly jobId: string;
  readonly waiting: Waiting[];
  sending: boolean;
}

const retryMs = 500;
/** A job has few states, and each replaces the commands of the one before it. */
const waitingMax = 8;

/**
 * Commands on their way to agents: in order for each job and agent, and again and again until the agent has answered,
 * its life is over, or the command has become pointless. They are idempotent, so one too many does no harm; one too few
 * would leave a trainer waiting for ever.
 */
export class CommandOutbox {
  readonly #context: Pick<CoordinatorContext, "network" | "clock" | "log" | "peers">;
  readonly #lanes = new Map<string, Lane>();
  readonly #cancelRetries = new Set<() => void>();
  #closed = false;

  constructor(context: Pick<CoordinatorContext, "network" | "clock" | "log" | "peers">) {
    this.#context = context;
  }

  push(to: { readonly peerId: string; readonly jobId: string }, command: Command): void {
    if (this.#closed) return;
    const { peers, clock } = this.#context;
    const lane = this.#lane(to);
    const inFlight = lane.sending ? 1 : 0;
    const kept = lane.waiting.filter(
      (waiting, i) => i < inFlight || !command.replaces.includes(waiting.command.protocol),
    );
    const incarnation = peers.get(to.peerId)?.hello.incarnation;
    kept.push({ command, incarnation, sinceMs: clock.monotonicMs() });
    if (kept.length > waitingMax) kept.splice(inFlight, 1);
    lane.waiting.splice(0, lane.waiting.length, ...kept);
    void this.#send(lane);
  }

  close(): void {
    this.#closed = true;
    for (const cancel of this.#cancelRetries) cancel();
    this.#cancelRetries.clear();
    this.#lanes.clear();
  }

  #lane({ peerId, jobId }: { readonly peerId: string; readonly jobId: string }): Lane {
    const id = `${jobId}/${peerId}`;
    const lane = this.#lanes.get(id) ?? { peerId, jobId, waiting: [], sending: false };
    this.#lanes.set(id, lane);
    return lane;
  }

  async #send(lane: Lane): Promise<void> {
    if (lane.sending || this.#closed) return;
    const { network, log } = this.#context;
    const next = lane.waiting.find((waiting) => this.#isDue(lane, waiting));
    if (!next) {
      this.#lanes.delete(`${lane.jobId}/${lane.peerId}`);
      return;
    }
    lane.waiting.splice(0, lane.waiting.indexOf(next));
    lane.sending = true;
    const { protocol, send } = next.command;
    let answered = true;
    try {
      await send(network, lane.peerId);
    } catch (cause) {
      const error = toRingfoldError(cause);
      answered = !error.rule.retryable || error.code === "STALE_TERM";
      log[answered ? "warn" : "debug"](
        { err: error, peer: lane.peerId, protocol },
        answered ? "A command was refused" : "A command did not arrive; it goes again",
      );
    }
    lane.sending = false;
    if (answered) lane.waiting.shift();
    if (answered) return this.#send(lane);
    this.#retryLater(lane);
  }

  /** A new life of an agent starts from nothing; who has been gone for long comes back as one. */
  #isDue({ peerId }: Lane, { incarnation, sinceMs }: Waiting): boolean {
    const { peers, clock } = this.#context;
    const peer = peers.get(peerId);
    if (peer?.left || clock.monotonicMs() - sinceMs > limits.peerForgetMs) return false;
    return !peer || incarnation === undefined || peer.hello.incarnation === incarnation;
  }

  #retryLater(lane: Lane): void {
    if (this.#closed) return;
    const cancel = this.#context.clock.after(retryMs, () => {
      this.#cancelRetries.delete(cancel);
      void this.#send(lane);
    });
    this.#cancelRetries.add(cancel);
  }
}
