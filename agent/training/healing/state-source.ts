import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { DataPlane } from "../../network/data-plane/data-plane.ts";
import { type Frame, type FrameSocket, frameKind } from "../../network/data-plane/frame-socket.ts";
import {
  announcementFrame,
  blockCount,
  blockRange,
  digestFrame,
  partFrame,
  stateFrame,
  unexpectedFrame,
} from "./state-frames.ts";

/** SHA-256 of a state. */
export type DigestState = (state: Uint8Array) => Promise<string>;

interface Snapshot {
  readonly generation: number;
  readonly bytes: Uint8Array;
  readonly digest: Promise<string>;
}

/**
 * What a rank that has the state holds ready for those that heal: a copy of it at the start of a generation, as the state
 * itself moves on with every step. Blocks are served as they are asked for.
 */
export class StateSource {
  readonly #digestState: DigestState;
  #snapshot: Snapshot | undefined;

  constructor({ plane, digestState }: { readonly plane: DataPlane; readonly digestState: DigestState }) {
    this.#digestState = digestState;
    const never = new AbortController().signal; // the sockets close with the plane
    plane.serve("heal", async (socket, { generation }) => {
      try {
        await this.#serve(socket, this.#snapshotOf(generation), never);
      } finally {
        socket.destroy();
      }
    });
  }

  /** Holds `bytes` ready for the ranks of `plan` until `withdraw`; to be called before they are admitted. It is ours now. */
  offer({ generation }: AdmissionPlan, bytes: Uint8Array): void {
    const digest = this.#digestState(bytes);
    digest.catch(() => undefined); // whoever asks for it hears of it
    this.#snapshot = { generation, bytes, digest };
  }

  /** Frees the copy. Whoever still reads it may finish. */
  withdraw(): void {
    this.#snapshot = undefined;
  }

  #snapshotOf(generation: number): Snapshot {
    if (this.#snapshot?.generation === generation) return this.#snapshot;
    throw new RingfoldError("STALE_GENERATION", `there is no state of generation ${generation} here`, {
      generation,
    });
  }

  /** Until the other end closes. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID */
  async #serve(socket: FrameSocket, { bytes, digest }: Snapshot, signal: AbortSignal): Promise<void> {
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
