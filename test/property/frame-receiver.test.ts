import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, frameBytes } from "../../agent/network/data-plane/frame-format.ts";
import { FrameReceiver } from "../../agent/network/data-plane/frame-receiver.ts";
import type { Frame } from "../../agent/network/data-plane/frame-socket.ts";
import { RingfoldError } from "../../protocol/errors.ts";

/** Payload of frame `index`: bytes that tell frames, and places within one, apart. */
const payloadOf = (index: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (31 * index + 7 * i + (i >> 8)) & 0xff);

const frame = (index: number, length: number): Frame => ({
  ...{ kind: 2, a: index, b: index + 1, c: index + 2, d: index + 3 },
  payload: payloadOf(index, length),
});

/** Writes bytes as a socket does: into the piece that it was given after the read before, as much as there is or fits. */
function readInto(receiver: FrameReceiver, bytes: Uint8Array, sizes: readonly number[]): void {
  let target = receiver.onread.buffer();
  for (let sent = 0, read = 0; sent < bytes.length; read++) {
    const length = Math.min(sizes[read % sizes.length]!, target.length, bytes.length - sent);
    target.set(bytes.subarray(sent, sent + length));
    sent += length;
    receiver.onread.callback(length);
    target = receiver.onread.buffer();
  }
}

const frames = fc.array(fc.oneof(fc.nat(300), fc.constantFrom(0, 64, 4_096, 65_344)), { maxLength: 12 });
const readSizes = fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 8 });

test("frames come out as they were sent, in whatever pieces the bytes come, wherever the payloads are wanted", async () => {
  await fc.assert(
    fc.asyncProperty(frames, readSizes, fc.infiniteStream(fc.boolean()), async (lengths, sizes, wishes) => {
      const receiver = new FrameReceiver();
      const places = new Map<number, Uint8Array>();
      const taken: { index: number; bytes: Uint8Array; inPlace: boolean }[] = [];
      const all = receiver.consume(
        ({ a, b, c, d, payload }) => {
          expect([b, c, d]).toEqual([a + 1, a + 2, a + 3]);
          taken.push({ index: a, bytes: payload.slice(), inPlace: payload === places.get(a) });
          return taken.length < lengths.length;
        },
        ({ a, payloadBytes }) => {
          if (!wishes.next().value) return undefined;
          expect(payloadBytes).toBe(lengths[a]);
          places.set(a, new Uint8Array(payloadBytes));
          return places.get(a);
        },
      );
      const bytes = Buffer.concat(lengths.map((length, index) => encodeFrame(frame(index, length))));
      readInto(receiver, bytes, sizes);
      if (lengths.length === 0) return;
      await all;
      expect(taken.map(({ index }) => index)).toEqual(lengths.map((_, index) => index));
      for (const { index, bytes: got, inPlace } of taken) {
        expect(Buffer.compare(got, payloadOf(index, lengths[index]!))).toBe(0);
        expect(inPlace).toBe(places.has(index));
      }
      expect(receiver.bytesReceived).toBe(lengths.reduce((sum, length) => sum + frameBytes(length), 0));
    }),
    { numRuns: 300 },
  );
});

test("a payload that is cut off on its way to its place ends the wait", async () => {
  const receiver = new FrameReceiver();
  const outcome = receiver.consume(
    () => true,
    ({ payloadBytes }) => new Uint8Array(payloadBytes),
  );
  readInto(receiver, encodeFrame(frame(0, 4_096)).subarray(0, 2_000), [500]);
  receiver.end(new RingfoldError("RING_BROKEN", "the link closed"));
  await expect(outcome).rejects.toMatchObject({ code: "RING_BROKEN" });
});
