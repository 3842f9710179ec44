import { expect, test } from "vitest";
import { keepRunning } from "../../../scripts/run/kept-process.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";

function bench() {
  const clock = new FakeClock();
  const stopping = new AbortController();
  const told: unknown[] = [];
  const processes: { end: () => void; stopped: boolean }[] = [];
  const open = () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const entry = { end, stopped: false };
    processes.push(entry);
    return {
      ended,
      stop: async () => {
        entry.stopped = true;
      },
    };
  };
  const failures: Error[] = [];
  const kept = keepRunning(open(), {
    ...{ clock, signal: stopping.signal },
    start: async () => {
      const failure = failures.shift();
      if (failure) throw failure;
      return open();
    },
    onEnded: (pauseMs, failure) => told.push(failure ?? pauseMs),
  });
  return { clock, stopping, told, processes, failures, kept };
}

test("a process that ends is started again, later each time, and at once again when it had stayed up", async () => {
  const { clock, stopping, told, processes, failures, kept } = bench();
  processes[0]!.end();
  await settle();
  await clock.advance(999);
  expect(processes).toHaveLength(1);
  await clock.advance(1);
  expect(processes).toHaveLength(2);
  const failure = new Error("no port");
  failures.push(failure);
  processes[1]!.end();
  await clock.advance(2_000); // this start fails
  expect(processes).toHaveLength(2);
  await clock.advance(4_000);
  expect(processes).toHaveLength(3);
  await clock.advance(60_000);
  processes[2]!.end();
  await clock.advance(1_000);
  expect(processes).toHaveLength(4);
  expect(told).toEqual([1_000, 2_000, failure, 1_000]);
  stopping.abort();
  await kept;
  expect(processes.map(({ stopped }) => stopped)).toEqual([false, false, false, true]);
  expect(clock.pendingTimers).toBe(0);
});

test("while it waits to start one, it ends at once", async () => {
  const { clock, stopping, processes, kept } = bench();
  processes[0]!.end();
  await settle();
  stopping.abort();
  await kept;
  expect(processes).toHaveLength(1);
  expect(clock.pendingTimers).toBe(0);
});
