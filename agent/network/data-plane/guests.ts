import type { Socket } from "node:net";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { Clock } from "../../../protocol/ports.ts";

/** A connection that has not been let in yet. */
export interface Guest {
  /** Aborts when the guest is gone, or must go: it hung up, its time is up, newer ones need the room, or the plane closes. */
  readonly signal: AbortSignal;
  /** It is a member of the plan that it speaks of: no crowd pushes it out any more. Its time still runs. */
  recognise(): void;
  /** It has what it wants. */
  letIn(): void;
}

interface KnownGuest extends Guest {
  readonly turnOut: (why: RingfoldError) => void;
  isGreeted: boolean;
  isRecognised: boolean;
}

/**
 * Everyone who has connected and was not let in, members whom nobody has asked for yet among them: bounded in number and, from
 * the first packet on, in time, whatever they send and however slowly. When there are too many the oldest goes: an honest dial is done within milliseconds, so of a
 * crowd that waits the newest is the likeliest to be one.
 */
export class Guests {
  readonly #guests = new Map<string, KnownGuest>();
  readonly #options: { readonly countMax: number; readonly timeoutMs: number; readonly clock: Clock };

  constructor(options: { readonly countMax: number; readonly timeoutMs: number; readonly clock: Clock }) {
    this.#options = options;
  }

  /** Takes a socket as TCP accepted it, before TLS. */
  enter(socket: Socket): void {
    const id = addressOf(socket);
    if (id === undefined) return void socket.destroy(); // it is gone already
    const { countMax, timeoutMs, clock } = this.#options;
    const controller = new AbortController();
    const forget = () => {
      cancelTimer();
      this.#guests.delete(id);
    };
    const turnOut = (why: RingfoldError) => {
      forget();
      controller.abort(why);
      // Whoever greets this guest tells it why and ends it; one that is still in its TLS handshake hears nothing.
      if (!guest.isGreeted) socket.destroy();
    };
    const cancelTimer = clock.after(timeoutMs, () =>
      turnOut(
        new RingfoldError("REQUEST_TIMEOUT", `no complete hello within ${timeoutMs} ms`, {
          host: socket.remoteAddress ?? null,
          timeoutMs,
        }),
      ),
    );
    const guest: KnownGuest = {
      ...{ signal: controller.signal, isGreeted: false, isRecognised: false, turnOut },
      letIn: forget,
      recognise: () => {
        guest.isRecognised = true;
      },
    };
    this.#guests.set(id, guest);
    // Whoever still waits on behalf of one that hung up would wait for ever, and hold what it holds.
    socket.once("close", () => {
      if (this.#guests.get(id) !== guest) return;
      turnOut(new RingfoldError("RING_BROKEN", "the connection closed before it was let in"));
    });
    if (this.#guests.size <= countMax) return;
    const oldest = [...this.#guests.values()].find(({ isRecognised }) => !isRecognised);
    oldest?.turnOut(
      new RingfoldError("OVERLOADED", "too many connections that have not said hello", { countMax }),
    );
  }

  /**
   * The guest on this connection, which may be the TLS socket over the one that entered. Whoever asks ends the connection
   * when the guest's signal aborts. Undefined when the guest has gone.
   */
  greet(socket: Socket): Guest | undefined {
    const id = addressOf(socket);
    const guest = id === undefined ? undefined : this.#guests.get(id);
    if (guest) guest.isGreeted = true;
    return guest;
  }

  close(): void {
    for (const { turnOut } of [...this.#guests.values()]) {
      turnOut(new RingfoldError("CANCELLED", "the data plane closed"));
    }
  }
}

const addressOf = ({ remoteAddress, remotePort }: Socket): string | undefined =>
  remoteAddress === undefined ? undefined : `${remoteAddress}/${remotePort}`;
