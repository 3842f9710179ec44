import { z } from "zod";
import { encode } from "../../../protocol/codec.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { digestSchema } from "../../../protocol/ids.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Frame, frameKind } from "../../network/data-plane/frame-socket.ts";

/**
 * What a rank that heals and one that has the state say to each other, over a data socket of their own: the source
 * announces how long the state is; the other asks for blocks by number, several ahead, and last for the digest.
 */
export const stateFrame = { announcement: 0, askBlock: 1, part: 2, askDigest: 3, digest: 4 } as const;

export const announcementSchema = z.object({ bytes: z.number().int().positive().max(limits.artefactBytes) });
export const stateDigestSchema = z.object({ digest: digestSchema });

const nothing = new Uint8Array(0);

export const announcementFrame = (bytes: number): Frame =>
  frame(stateFrame.announcement, { payload: encode({ bytes }) });
export const askBlockFrame = (block: number): Frame => frame(stateFrame.askBlock, { block });
export const partFrame = (block: number, part: number, payload: Uint8Array): Frame =>
  frame(stateFrame.part, { block, part, payload });
export const askDigestFrame = (): Frame => frame(stateFrame.askDigest, {});
export const digestFrame = (digest: string): Frame =>
  frame(stateFrame.digest, { payload: encode({ digest }) });

function frame(
  type: number,
  { block = 0, part = 0, payload = nothing }: { block?: number; part?: number; payload?: Uint8Array },
): Frame {
  return { kind: frameKind.state, a: type, b: block, c: part, d: 0, payload };
}

/** A block of a state: the last one may be shorter. */
export function blockRange(block: number, stateBytes: number): { start: number; end: number } {
  const start = block * limits.stateBlockBytes;
  return { start, end: Math.min(stateBytes, start + limits.stateBlockBytes) };
}

export const blockCount = (stateBytes: number): number => Math.ceil(stateBytes / limits.stateBlockBytes);

export const unexpectedFrame = (peer: string, { kind, a, b, c }: Frame): RingfoldError =>
  new RingfoldError("MESSAGE_INVALID", `${peer} sent a frame that has no place in a healing`, {
    ...{ peer, kind, type: a, block: b, part: c },
  });
