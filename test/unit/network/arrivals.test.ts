import { expect, test } from "vitest";
import { Arrivals, type Purpose } from "../../../agent/network/data-plane/arrivals.ts";
import type { FrameSocket } from "../../../agent/network/data-plane/frame-socket.ts";

const purpose: Purpose = { kind: "ring", jobId: "job-1", generation: 1 };
const soon = () => AbortSignal.timeout(1_000);

interface Stub {
  readonly socket: FrameSocket;
  readonly destroyed: () => boolean;
}
function stub(): Stub {
  let destroyed = false;
  const socket = {
    destroy: () => {
      destroyed = true;
    },
  } as FrameSocket;
  return { socket, destroyed: () => destroyed };
}

test("a dial and its accept meet, whichever comes first", async () => {
  const arrivals = new Arrivals();
  const [early, late] = [stub(), stub()];
  arrivals.arrive(early.socket, "a", purpose);
  expect(await arrivals.accept("a", purpose, soon())).toBe(early.socket);
  const accepted = arrivals.accept("b", purpose, soon());
  arrivals.arrive(late.socket, "b", purpose);
  expect(await accepted).toBe(late.socket);
});

test("a second dial replaces the first, and the first's end does not take the second away", async () => {
  const arrivals = new Arrivals();
  const [first, second] = [stub(), stub()];
  arrivals.arrive(first.socket, "a", purpose);
  arrivals.arrive(second.socket, "a", purpose);
  expect(first.destroyed()).toBe(true);
  arrivals.forget(first.socket, "a", purpose);
  expect(await arrivals.accept("a", purpose, soon())).toBe(second.socket);
});

test("what nobody asked for is bounded", () => {
  const arrivals = new Arrivals();
  const stubs = Array.from({ length: 65 }, stub);
  const arrive = (i: number) => arrivals.arrive(stubs[i]!.socket, `peer-${i}`, purpose);
  for (let i = 0; i < 64; i++) arrive(i);
  expect(() => arrive(64)).toThrow(expect.objectContaining({ code: "OVERLOADED" }));
});

test("a link in use is not replaced by a second dial; once it has closed, another may come", async () => {
  const arrivals = new Arrivals();
  const [first, second] = [stub(), stub()];
  const accepted = arrivals.accept("a", purpose, soon());
  arrivals.arrive(first.socket, "a", purpose);
  expect(await accepted).toBe(first.socket);
  const again = () => arrivals.arrive(second.socket, "a", purpose);
  expect(again).toThrow(expect.objectContaining({ code: "DUPLICATE_IDENTITY" }));
  expect(first.destroyed()).toBe(false);
  arrivals.forget(first.socket, "a", purpose);
  again();
  expect(await arrivals.accept("a", purpose, soon())).toBe(second.socket);
});

test("an accept that is given up takes no later dial", async () => {
  const arrivals = new Arrivals();
  const cancel = new AbortController();
  const accepted = arrivals.accept("a", purpose, cancel.signal);
  cancel.abort();
  await expect(accepted).rejects.toMatchObject({ code: "REQUEST_TIMEOUT" });
  const { socket } = stub();
  arrivals.arrive(socket, "a", purpose);
  expect(await arrivals.accept("a", purpose, soon())).toBe(socket);
});

test("what waits for a generation that is over goes, and makes room", () => {
  const arrivals = new Arrivals();
  const old = Array.from({ length: 64 }, stub);
  for (const [i, { socket }] of old.entries()) arrivals.arrive(socket, `peer-${i}`, purpose);
  const other = stub();
  expect(arrivals.takeOlder({ jobId: "job-2", generation: 9 })).toEqual([]);
  expect(arrivals.takeOlder({ jobId: "job-1", generation: 1 })).toEqual([]);
  expect(arrivals.takeOlder({ jobId: "job-1", generation: 2 })).toEqual(old.map(({ socket }) => socket));
  arrivals.arrive(other.socket, "peer-64", { ...purpose, generation: 2 });
});
