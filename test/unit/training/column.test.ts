import { expect, test } from "vitest";
import { Column } from "../../../agent/training/stages/column.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { memoryColumns } from "../../fixtures/columns.ts";
import { memoryConnection } from "../../simulation/memory-links.ts";

const never = new AbortController().signal;

test("messages of any length arrive whole and in order, in both directions", async () => {
  const [first, last] = memoryColumns(2) as [Column, Column];
  for (const length of [1, 7, limits.segmentBytes / 4, limits.segmentBytes + 3]) {
    const values = Float32Array.from({ length }, (_, i) => i / 7);
    first.send("after", "activations", values);
    last.send("before", "gradients", values);
    const [there, back] = [new Float32Array(length), new Float32Array(length)];
    await last.receive("before", "activations", there, never);
    await first.receive("after", "gradients", back, never);
    expect(there).toEqual(values);
    expect(back).toEqual(values);
  }
});

test("numbers are summed over all stages, to the same bits on each", async () => {
  const columns = memoryColumns(4);
  const values = columns.map(({ stage }) => Float64Array.of(0.1 * (stage + 1), stage));
  await Promise.all(columns.map((column, stage) => column.sum(values[stage]!, never)));
  expect(values[0]![0]).toBeCloseTo(1, 12);
  expect(values[0]![1]).toBe(6);
  for (const each of values) expect(each).toEqual(values[0]);
});

test("a stage that goes ends the wait of every other one, whichever side it waits for", async () => {
  const columns = memoryColumns(4);
  const waits = columns
    .filter(({ stage }) => stage !== 1)
    .map((column) => {
      const side = column.isFirst ? "after" : "before";
      const kind = column.isFirst ? "gradients" : "activations";
      return column.receive(side, kind, new Float32Array(3), never);
    });
  columns[1]!.destroy();
  for (const outcome of await Promise.allSettled(waits)) {
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
  }
  expect(() => columns[3]!.throwIfBroken()).toThrow(/closed/);
});

test("a message of another kind or length is refused, and ends the column", async () => {
  for (const values of [new Float32Array(3), new Float32Array(5)]) {
    const [first, last] = memoryColumns(2) as [Column, Column];
    first.send("after", values.length === 3 ? "gradients" : "activations", values);
    await expect(last.receive("before", "activations", new Float32Array(3), never)).rejects.toMatchObject({
      code: "MESSAGE_INVALID",
    });
    expect(() => first.throwIfBroken()).toThrow(/closed/);
  }
});

test("a cancelled wait ends the column", async () => {
  const [first, last] = memoryColumns(2) as [Column, Column];
  const cancel = new AbortController();
  const wait = first.receive("after", "gradients", new Float32Array(1), cancel.signal);
  cancel.abort(new Error("enough"));
  await expect(wait).rejects.toThrow();
  expect(() => last.throwIfBroken()).toThrow(/closed/);
});

test("a neighbour that has all that it needs may go: the sum stands, and what comes next is told", async () => {
  const [one, other] = memoryConnection("stage-0", "stage-1");
  const gone = new RingfoldError("RING_BROKEN", "the link closed");
  // The bytes have been read over there, and the socket has closed before it said here that they have left.
  const drained = async () => Promise.reject(gone);
  const links = { ...one, downstream: { ...one.downstream, drained } };
  const first = new Column({ stage: 0, stageCount: 2, after: links });
  const last = new Column({ stage: 1, stageCount: 2, before: other });
  const values = [Float64Array.of(1), Float64Array.of(2)];
  await Promise.all([first.sum(values[0]!, never), last.sum(values[1]!, never)]);
  expect(values).toEqual([Float64Array.of(3), Float64Array.of(3)]);
  await expect(first.drained(never)).rejects.toBe(gone);
});
