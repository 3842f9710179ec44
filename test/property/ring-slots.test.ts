import fc from "fast-check";
import { expect, test } from "vitest";
import { RingMemory } from "../../agent/ring/memory.ts";
import { Slots } from "../../agent/ring/slots.ts";

const payloadBytesMax = 100;

/** What a link does: takes one segment more, or lets so many of the oldest leave. */
const steps = fc.array(fc.oneof(fc.constant("send" as const), fc.integer({ min: 1, max: 4 })), {
  maxLength: 60,
});

test("a segment gets the lowest slot whose segment has left, whatever was pending before", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 6 }), fc.nat(2), steps, (window, before, sequence) => {
      const memory = new RingMemory({ elementCount: 0, window, segmentBytes: payloadBytesMax });
      const slots = new Slots(memory, { payloadBytesMax, window });
      /** Slots of what is pending, oldest first; undefined for frames that are no segments. */
      const pending: (number | undefined)[] = Array.from({ length: before }, () => undefined);
      const known = Array.from({ length: window + 1 }, (_, i) => memory.slots.pointer + 64 + i * (64 + 128));
      for (const step of sequence) {
        if (step !== "send") pending.splice(0, step);
        else if (pending.length <= window) {
          const slot = slots.next({ pendingCount: pending.length });
          expect(slot).toBe(known.find((each) => !pending.includes(each)));
          pending.push(slot);
        }
      }
    }),
  );
});
