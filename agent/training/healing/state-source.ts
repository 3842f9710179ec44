import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { AdmissionPlan } from "../../network/admission.ts";
import type { DataPlane } from "../../network/data-plane.ts";
import { type Frame, type FrameSocket, frameKind } from "../../network/frame-socket.ts";
import {
  announcementFrame,
  blockCount,
  blockRange,
  digestFrame,
  partFrame,
  placeFrame,
  stateFrame,
  unexpectedFrame,
} from "./state-frames.ts";
import type { StateThread } from "./state-thread.ts";

/** SHA-256 of a state; outside the simulator off the thread that trains. */
export type DigestState = (state: Uint8Array) => Promise<string>;

/** Gives a state away elsewhere; absent where it is always given away here. */
export type OpenThread = (plan: AdmissionPlan, state: Uint8Array) => StateThread;

interface Offer {
  readonly generation: number;
  /** Answers one rank that heals, until it has what it wants. */
  readonly answer: (socket: FrameSocket, signal: AbortSignal) => Promise<void>;
  readonly close: () => void;
}

/**
 * What a rank that has the state holds ready for those that heal: a copy of it at the start of a generation, as the state
 * itself moves on with every step. A small one is given away here, a large one by a thread of its own.
 */
export class StateSource {
  readonly #digestState: DigestState;
  readonly #openThread: OpenThread | undefined;
  #offer: Offer | undefined;

  constructor(modules: {
    readonly plane: DataPlane;
    readonly digestState: DigestState;
    readonly openThread?: OpenThread;
  }) {
    this.#digestState = modules.digestState;
    this.#openThread = modules.openThread;
    const never = new AbortController().signal; // the sockets close with the plane
    modules.plane.serve("heal", async (socket, { generation }) => {
      try {
        await this.#offerOf(generation).answer(socket, never);
      } finally {
        socket.destroy();
      }
    });
  }

  /** Holds `state` ready for the ranks of `plan` until `withdraw`; to be called before they are admitted. It is ours now. */
  offer(plan: AdmissionPlan, state: Uint8Array): void {
    this.withdraw();
    const { generation } = plan;
    if (this.#openThread && state.byteLength >= limits.stateThreadBytes) {
      const thread = this.#openThread(plan, state);
      this.#offer = {
        generation,
        answer: async (socket, signal) => this.#sendOn(socket, await thread.port, signal),
        close: thread.close,
      };
      return;
    }
    const digest = this.#digestState(state);
    digest.catch(() => undefined); // whoever asks for it hears of it
    this.#offer = {
      generation,
      answer: (socket, signal) => this.#serve(socket, { bytes: state, digest }, signal),
      close: () => {},
    };
  }

  /** Frees the copy, when all who need it have it. */
  withdraw(): void {
    this.#offer?.close();
    this.#offer = undefined;
  }

  #offerOf(generation: number): Offer {
    if (this.#offer?.generation === generation) return this.#offer;
    throw new RingfoldError("STALE_GENERATION", `there is no state of generation ${generation} here`, {
      generation,
    });
  }

  /** To the port where the state is. The other end closes when it has read that. */
  async #sendOn(socket: FrameSocket, port: number, signal: AbortSignal): Promise<void> {
    socket.send(placeFrame(port));
    await socket.receive(signal).catch(() => undefined);
  }

  /** Until the other end closes. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID */
  async #serve(
    socket: FrameSocket,
    { bytes, digest }: { readonly bytes: Uint8Array; readonly digest: Promise<string> },
    signal: AbortSignal,
  ): Promise<void> {
    socket.send(placeFrame(0));
    socket.send(announcementFrame(bytes.length));
    for (;;) {
      const ask = await socket.receive(signal);
      if (ask.kind === frameKind.state && ask.a === stateFrame.askDigest) {
        socket.send(digestFrame(await digest));
      } else {
        sendBlock(socket, bytes, ask);
        // The next asks wait in the socket: what lies in this process stays bounded.
        await socket.drained(signal, 2 * partsOf(limits.stateBlockBytes));
      }
    }
  }
}

const partsOf = (bytes: number): number => Math.ceil(bytes / limits.segmentBytes);

function sendBlock(socket: FrameSocket, bytes: Uint8Array, ask: Frame): void {
  const { kind, a: type, b: block } = ask;
  if (kind !== frameKind.state || type !== stateFrame.askBlock || block >= blockCount(bytes.length))
    throw unexpectedFrame(socket.peerId, ask);
  const { start, end } = blockRange(block, bytes.length);
  for (let part = 0, from = start; from < end; part++, from += limits.segmentBytes) {
    socket.send(partFrame(block, part, bytes.subarray(from, Math.min(end, from + limits.segmentBytes))));
  }
}
