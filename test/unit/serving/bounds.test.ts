import { describe, expect, test } from "vitest";
import { openDeadline, untilAborted } from "../../../agent/deadline.ts";
import { Admission } from "../../../agent/serving/admission.ts";
import { fromWire, toWire } from "../../../agent/serving/wire-tensor.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

describe("Admission", () => {
  const overloaded = expect.objectContaining({ code: "OVERLOADED" });

  test("bounds the number, and gives room back", () => {
    const admission = new Admission({ what: "requests", countMax: 2, bytesMax: 100 });
    const leave = admission.enter(1);
    admission.enter(1);
    expect(() => admission.enter(1)).toThrowError(overloaded);
    leave();
    admission.enter(1);
  });

  test("bounds the bytes, but lets a single large piece in", () => {
    const admission = new Admission({ what: "requests", countMax: 9, bytesMax: 100 });
    const leave = admission.enter(500);
    expect(() => admission.enter(0)).toThrowError(overloaded);
    leave();
    admission.enter(60);
    expect(() => admission.enter(41)).toThrowError(overloaded);
    admission.enter(40);
  });
});

describe("openDeadline", () => {
  test("aborts with REQUEST_TIMEOUT when time is up", async () => {
    const clock = new FakeClock();
    const deadline = openDeadline(
      { timeoutMs: 50, what: "the test", parent: new AbortController().signal },
      clock,
    );
    const wait = expect(untilAborted(new Promise(() => undefined), deadline.signal)).rejects.toMatchObject({
      code: "REQUEST_TIMEOUT",
      message: "the test: no answer within 50 ms",
    });
    await clock.advance(30);
    expect(deadline.remainingMs()).toBe(20);
    await clock.advance(20);
    await wait;
  });

  test("aborts with its parent, also one that aborted before", async () => {
    const parent = AbortSignal.abort();
    const deadline = openDeadline({ timeoutMs: 50, what: "the test", parent }, new FakeClock());
    await expect(untilAborted(Promise.resolve(1), deadline.signal)).rejects.toMatchObject({
      code: "CANCELLED",
    });
  });

  test("holds nothing once released", async () => {
    const clock = new FakeClock();
    const parent = new AbortController();
    const deadline = openDeadline({ timeoutMs: 50, what: "the test", parent: parent.signal }, clock);
    deadline.release();
    parent.abort();
    expect(deadline.signal.aborted).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("wire tensors", () => {
  test("come back as they went, from any address", () => {
    const tensor = { shape: [2, 1], data: Float32Array.of(1.5, -2) };
    const { data } = toWire(tensor);
    for (const offset of [0, 1, 2, 3, 4]) {
      const memory = Buffer.alloc(16);
      memory.set(data, offset);
      expect(fromWire({ shape: [2, 1], data: memory.subarray(offset, offset + 8) })).toEqual(tensor);
    }
  });

  test("are refused when bytes and shape differ", () => {
    expect(() => fromWire({ shape: [2, 2], data: new Uint8Array(12) })).toThrowError(
      expect.objectContaining({ code: "REQUEST_INVALID" }),
    );
  });
});
