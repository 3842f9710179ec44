import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readScriptLog, ScriptLog } from "../../../agent/torch/script-log.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";

const whole = { after: 0, bytesMax: 1_000, isOver: true };

describe("the log of a script", () => {
  test("of a job that was never here is empty", () => {
    expect(readScriptLog(`${temporaryFolder()}/none`, whole)).toEqual({
      ...{ text: "", start: 0, next: 0, hasMore: false, isOver: true },
    });
  });

  test("goes on in the next life of the script, and keeps the newest of a flood in two files", () => {
    const folder = temporaryFolder();
    const first = new ScriptLog(folder, { partBytes: 10 });
    first.write(Buffer.from("01234567"));
    first.close();
    const second = new ScriptLog(folder, { partBytes: 10 });
    for (const text of ["89abcdef", "ghij", "klmnop"]) second.write(Buffer.from(text));
    second.close();
    expect(readdirSync(folder).sort()).toEqual(["output-16.log", "output.log"]);
    expect(readScriptLog(folder, whole)).toMatchObject({
      ...{ text: "89abcdef", start: 8, next: 16, hasMore: true },
    });
    expect(readScriptLog(folder, { ...whole, after: 16 })).toMatchObject({
      ...{ text: "ghijklmnop", start: 16, next: 26, hasMore: false },
    });
    expect(readScriptLog(folder, { ...whole, after: 26 })).toMatchObject({ text: "", next: 26 });
    expect(readScriptLog(folder, { ...whole, after: 1_000 })).toMatchObject({ text: "", next: 26 });
  });

  test("from its end begins with a line", () => {
    const folder = temporaryFolder();
    const log = new ScriptLog(folder);
    log.write(Buffer.from("first line\nsecond\nthird\n"));
    log.close();
    expect(readScriptLog(folder, { ...whole, after: -10 })).toMatchObject({ text: "third\n", start: 18 });
    expect(readScriptLog(folder, { ...whole, after: -100 })).toMatchObject({ start: 0, next: 24 });
  });

  test("in pieces of any length, however it was written, is what was printed", () => {
    const printed = fc.array(fc.string({ unit: "binary", maxLength: 12 }), { maxLength: 20 });
    fc.assert(
      fc.property(printed, fc.integer({ min: 1, max: 9 }), (texts, bytesMax) => {
        const folder = temporaryFolder();
        const log = new ScriptLog(folder);
        for (const text of texts) log.write(Buffer.from(text));
        log.close();
        let read = "";
        for (let after = 0, more = true; more; ) {
          const piece = readScriptLog(folder, { after, bytesMax: Math.max(4, bytesMax), isOver: true });
          expect(piece.start).toBe(after);
          read += piece.text;
          after = piece.next;
          more = piece.hasMore;
        }
        expect(read).toBe(texts.map((text) => Buffer.from(text).toString()).join(""));
      }),
      { numRuns: 50 },
    );
  });

  test("holds a character back until all of it is there", () => {
    const folder = temporaryFolder();
    const log = new ScriptLog(folder);
    const euro = Buffer.from("€");
    log.write(Buffer.concat([Buffer.from("5 "), euro.subarray(0, 2)]));
    expect(readScriptLog(folder, { ...whole, isOver: false })).toMatchObject({ text: "5 ", next: 2 });
    log.write(euro.subarray(2));
    expect(readScriptLog(folder, { ...whole, isOver: false, after: 2 })).toMatchObject({
      text: "€",
      next: 5,
    });
    log.close();
  });
});
