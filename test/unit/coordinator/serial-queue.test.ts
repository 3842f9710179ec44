import { expect, test } from "vitest";
import { SerialQueue } from "../../../coordinator/serial-queue.ts";
import { settle } from "../../simulation/fake-clock.ts";

test("work runs in order, one piece at a time, whatever the one before it does", async () => {
  const queue = new SerialQueue();
  const log: string[] = [];
  const work = (name: string) => async () => {
    log.push(`${name} begins`);
    await settle();
    if (name === "b") throw new Error("b fails");
    log.push(`${name} ends`);
    return name;
  };
  const outcomes = await Promise.allSettled(["a", "b", "c"].map((name) => queue.run(work(name))));
  expect(log).toEqual(["a begins", "a ends", "b begins", "c begins", "c ends"]);
  expect(outcomes).toMatchObject([
    { value: "a" },
    { status: "rejected", reason: { message: "b fails" } },
    { value: "c" },
  ]);
});

test("closing waits for what was taken and takes no more", async () => {
  const queue = new SerialQueue();
  let done = 0;
  const taken = [1, 2].map(() => queue.run(() => settle().then(() => done++)));
  const closed = queue.close();
  await expect(queue.run(async () => {})).rejects.toMatchObject({ code: "CANCELLED" });
  await closed;
  expect(done).toBe(2);
  await Promise.all(taken);
});

test("a queue that is full refuses, and takes again when it has room", async () => {
  const queue = new SerialQueue();
  const gate = Promise.withResolvers<void>();
  const waiting = [queue.run(() => gate.promise)];
  for (let i = 1; i < 10_000; i++) waiting.push(queue.run(async () => {}));
  await expect(queue.run(async () => {})).rejects.toMatchObject({ code: "OVERLOADED" });
  gate.resolve();
  await Promise.all(waiting);
  await expect(queue.run(async () => "room")).resolves.toBe("room");
});
