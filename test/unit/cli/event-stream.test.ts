import fc from "fast-check";
import { expect, test } from "vitest";
import { readEventStream, type ServerEvent } from "../../../scripts/commands/follow/event-stream.ts";

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let index = 1; index < edges.length; index++) yield bytes.subarray(edges[index - 1], edges[index]);
}

async function read(text: string, cuts: readonly number[] = []): Promise<ServerEvent[]> {
  const events: ServerEvent[] = [];
  for await (const event of readEventStream(chunksOf(new TextEncoder().encode(text), cuts)))
    events.push(event);
  return events;
}

test("fields, comments, several data lines, and an event without its blank line", async () => {
  const text = ": hello\n\nevent: cluster\ndata: one\ndata:two\nid: 7\n\ndata\n\ndata: cut off";
  expect(await read(text)).toEqual([
    { event: "cluster", data: "one\ntwo", id: "7" },
    { event: "message", data: "", id: "7" },
  ]);
});

test("property: however the bytes are cut and the lines end, the events are the same", async () => {
  const line = fc.string({ unit: "grapheme", maxLength: 12 }).map((text) => text.replace(/[\r\n]/g, ""));
  const events = fc.array(
    fc.record({
      event: fc.constantFrom("cluster", "other"),
      id: fc.constantFrom("1.2", "", "3"),
      data: fc.array(line, { minLength: 1 }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(
      events,
      fc.constantFrom("\n", "\r\n", "\r"),
      fc.array(fc.nat()),
      async (sent, end, cuts) => {
        const text = sent
          .map(({ event, id, data }) =>
            [`event: ${event}`, `id: ${id}`, ...data.map((part) => `data: ${part}`), "", ""].join(end),
          )
          .join("");
        const expected = sent.map(({ event, id, data }) => ({ event, id, data: data.join("\n") }));
        expect(await read(text, cuts)).toEqual(expected);
      },
    ),
  );
});

test("a line without end is refused before it fills the memory", async () => {
  async function* endless(): AsyncGenerator<Uint8Array> {
    const piece = new Uint8Array(1024 * 1024).fill(0x61);
    for (;;) yield piece;
  }
  await expect(readEventStream(endless()).next()).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
});
