import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { Holders } from "../../protocol/holdings.ts";
import { limits } from "../../protocol/limits.ts";
import type { Holdings } from "../../protocol/messages/artefact.ts";
import type { MeasuredLink } from "../../protocol/messages/link.ts";
import {
  type Hello,
  type JoinResponse,
  join,
  leave,
  type Presence,
  presenceTopic,
} from "../../protocol/messages/membership.ts";
import type { Served } from "../../protocol/messages/served.ts";
import type { Clock, ClusterNetwork, Log } from "../../protocol/ports.ts";
import { openDeadline } from "../deadline.ts";
import type { AgentCredentials } from "./credentials-file.ts";

export interface MembershipModules {
  readonly network: ClusterNetwork;
  readonly credentials: AgentCredentials;
  /** Built anew each time, as addresses change. */
  readonly hello: () => Hello;
  readonly holdings: () => Holdings;
  readonly links: () => MeasuredLink[];
  readonly served: () => Served[];
  readonly measureLoad: () => Presence["load"];
  /** A connection to the coordinator stands; called before each hello to it. */
  readonly onReached: () => Promise<void>;
  readonly onJoined: (response: JoinResponse) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The coordinator's own trouble (a full disk, a defect) is none: it may be over the next time. */
const isRefusal = ({ code, rule }: RingfoldError): boolean =>
  !rule.retryable && rule.blame !== "self" && code !== "CANCELLED";

const retryMs = { first: 200, most: 5_000 } as const;

/**
 * An agent's place in the cluster: joins, says every second that it is here, listens to the others, and comes back by
 * itself when the coordinator was away.
 */
export class Membership {
  readonly #modules: MembershipModules;
  readonly #closed = new AbortController();
  readonly #holders: Holders;
  #membership: string | null;
  #sequence = 0;
  #cancelBeat: (() => void) | undefined;
  #rejoining = false;
  #endPause: (() => void) | undefined;

  constructor(modules: MembershipModules) {
    this.#modules = modules;
    this.#membership = modules.credentials.membership;
    this.#holders = new Holders(modules);
    modules.network.onConnection(({ peerId, connected }) => {
      if (!connected) this.#holders.forget(peerId);
      if (peerId !== this.coordinatorPeerId) return;
      if (connected)
        this.#endPause?.(); // mDNS or the coordinator itself was quicker than our next attempt
      else if (this.#cancelBeat) void this.#rejoin();
    });
  }

  get coordinatorPeerId(): string {
    return this.#modules.credentials.claims.coordinator;
  }

  /**
   * Tries until it is in or `signal` ends the trying. Refusals are final; that somebody has our identity, when it has been
   * so for longer than a dead member takes to fall silent.
   * @throws RingfoldError COORDINATOR_UNREACHABLE | TOKEN_INVALID | TOKEN_EXPIRED | NOT_A_MEMBER | PROTOCOL_RANGE | DUPLICATE_IDENTITY
   */
  async join(signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#modules;
    const startedAtMs = clock.monotonicMs();
    let lastError = new RingfoldError("COORDINATOR_UNREACHABLE", "not tried yet");
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.#joinOnce(attempt, signal);
        this.#start();
        return;
      } catch (cause) {
        lastError = toRingfoldError(cause);
        if (isRefusal(lastError) && !this.#mayPass(lastError, startedAtMs)) throw lastError;
        log.debug({ err: lastError, attempt }, "Not joined yet");
        await this.#pause(Math.min(retryMs.most, retryMs.first * 2 ** attempt), signal);
      }
    }
    const addresses = this.#modules.credentials.claims.addresses.join(", ") || "no address in the token";
    throw new RingfoldError(
      "COORDINATOR_UNREACHABLE",
      `cannot reach the coordinator (${addresses}), and no peer on this network knows it`,
      {
        remedy:
          "Start the coordinator, check the address and firewall, or make a new token there with `ringfold token`.",
      },
      { cause: lastError },
    );
  }

  /** Our own last life may still count as alive, when the network ate the news of its closed sockets: it will fall silent. */
  #mayPass({ code }: RingfoldError, startedAtMs: number): boolean {
    const waitedMs = this.#modules.clock.monotonicMs() - startedAtMs;
    return code === "DUPLICATE_IDENTITY" && waitedMs <= limits.heartbeatTimeoutMs;
  }

  /** Live peers that said they hold this artefact, then the rest we are connected to: one of them may have it since. */
  holdersOf(digest: string): string[] {
    const { network } = this.#modules;
    const connected = network.connectedPeers().filter((peerId) => peerId !== this.coordinatorPeerId);
    const known = this.#holders.of(digest);
    return connected.sort((a, b) => Number(known.has(b)) - Number(known.has(a)));
  }

  /** Says goodbye and waits until nothing depends on this agent, at most until `signal`. */
  async leave(reason: string, signal: AbortSignal): Promise<boolean> {
    const { network, hello, log } = this.#modules;
    while (!signal.aborted) {
      try {
        const { released } = await network.request(
          this.coordinatorPeerId,
          leave,
          { reason, incarnation: hello().incarnation },
          { signal, timeoutMs: 2_000 },
        );
        if (released) return true;
      } catch (error) {
        log.info({ err: error }, "The coordinator cannot be told goodbye");
        return false;
      }
      await this.#pause(100, signal);
    }
    return false;
  }

  /** Tells the others at once what changed, instead of with the next beat. */
  announce(): void {
    this.#cancelBeat?.();
    this.#beat();
  }

  close(): void {
    this.#closed.abort();
    this.#holders.close();
    this.#cancelBeat?.();
  }

  async #joinOnce(attempt: number, signal: AbortSignal): Promise<void> {
    const { network, credentials, hello, onReached, onJoined } = this.#modules;
    const { coordinator, addresses: told } = credentials.claims;
    // One of several coordinators leads; an address that swallows a dial must not keep us from the next.
    const first = told.length > 0 ? attempt % told.length : 0;
    const addresses = [...told.slice(first), ...told.slice(0, first)];
    if (!network.connectedPeers().includes(coordinator)) await this.#reach(coordinator, addresses, signal);
    await onReached();
    const request = { hello: hello(), token: credentials.token, membership: this.#membership };
    const response = await network.request(coordinator, join, request, { signal, timeoutMs: 5_000 });
    this.#membership = response.membership;
    await onJoined(response);
    // A socket that closed before now was nobody's loss yet: whoever listens from here on would never hear of it.
    if (!network.connectedPeers().includes(coordinator))
      throw new RingfoldError("PEER_UNREACHABLE", "the coordinator went away as it took this agent in");
  }

  async #reach(coordinator: string, addresses: readonly string[], signal: AbortSignal): Promise<void> {
    const { network } = this.#modules;
    try {
      if (addresses.length === 0) throw new RingfoldError("PEER_UNREACHABLE", "the token holds no address");
      await this.#dial(addresses, signal);
    } catch (cause) {
      const connected = network.connectedPeers();
      if (connected.includes(coordinator)) return; // mDNS has found it meanwhile
      if (connected.length === 0) throw cause;
      // It may have moved to an address that the token does not know; the members around us can say where to.
      await this.#dial([`/p2p/${coordinator}`], signal);
    }
  }

  async #dial(addresses: readonly string[], signal: AbortSignal): Promise<void> {
    const { network, clock } = this.#modules;
    const deadline = openDeadline(
      { timeoutMs: limits.dialTimeoutMs, what: "dialling the coordinator", parent: signal },
      clock,
    );
    try {
      await network.connect(addresses, deadline.signal);
    } finally {
      deadline.release();
    }
  }

  #start(): void {
    const { network } = this.#modules;
    if (this.#cancelBeat) return;
    network.subscribe(presenceTopic, ({ hello, holdings }, from) => {
      if (from !== hello.peerId) return;
      if (from !== network.peerId && network.connectedPeers().includes(from))
        this.#holders.hear(from, holdings);
      this.#meet(from, hello.addresses);
    });
    this.#beat();
  }

  #beat(): void {
    const { network, hello, holdings, links, served, measureLoad, clock, log } = this.#modules;
    if (this.#closed.signal.aborted || this.#membership === null) return;
    const presence = {
      hello: hello(),
      membership: this.#membership,
      sequence: this.#sequence++,
      load: measureLoad(),
      holdings: holdings(),
      links: links(),
      served: served(),
    };
    network
      .publish(presenceTopic, presence)
      .catch((error) => log.debug({ err: error }, "Presence was not sent"));
    this.#cancelBeat = clock.after(limits.heartbeatIntervalMs, () => this.#beat());
  }

  /** Members keep a socket to each other; of two that meet, the one with the smaller id dials. */
  #meet(peerId: string, addresses: readonly string[]): void {
    const { network, clock, log } = this.#modules;
    const connected = network.connectedPeers();
    if (network.peerId > peerId || connected.includes(peerId) || connected.length >= limits.knownPeersMax)
      return;
    const deadline = openDeadline(
      { timeoutMs: limits.dialTimeoutMs, what: "dialling a member", parent: this.#closed.signal },
      clock,
    );
    network
      .connect(addresses, deadline.signal)
      .catch((error) => log.debug({ err: error, peer: peerId }, "A member cannot be dialled"))
      .finally(() => deadline.release());
  }

  async #rejoin(): Promise<void> {
    if (this.#rejoining) return;
    this.#rejoining = true;
    const { log } = this.#modules;
    log.warn({}, "The coordinator is away; training and serving go on, and it is looked for");
    try {
      await this.join(this.#closed.signal);
      log.info({}, "The coordinator is back");
    } catch (error) {
      if (!this.#closed.signal.aborted)
        log.error({ err: error }, "The coordinator does not take this agent back");
    } finally {
      this.#rejoining = false;
    }
  }

  #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        this.#endPause = undefined;
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.#modules.clock.after(delayMs, done);
      signal.addEventListener("abort", done);
      this.#endPause = done;
    });
  }
}
