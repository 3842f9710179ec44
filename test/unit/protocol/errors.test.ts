import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type ErrorCode,
  errorRules,
  isErrorCode,
  RingfoldError,
  toRingfoldError,
} from "../../../protocol/errors.ts";

const codes = Object.keys(errorRules) as ErrorCode[];
const httpOfBlame = { caller: 4, self: 5 } as const;
/** A refusal of the self kind that is the caller's cue to slow down, or the job's own numbers. */
const selfWith4xx: readonly ErrorCode[] = ["OVERLOADED", "NOT_FINITE"];

test.each(codes)("%s has a remedy, an HTTP error status and an exit code", (code) => {
  const rule = errorRules[code];
  expect(rule.remedy).toMatch(/^[A-Z].{3,}\.$/);
  expect(rule.http).toBeGreaterThanOrEqual(400);
  expect(rule.http).toBeLessThan(600);
  const sysexits = rule.exit >= 64 && rule.exit <= 78;
  expect(sysexits || rule.exit === 1 || rule.exit === 130).toBe(true);
});

test.each(codes)("%s blames who its HTTP status blames", (code) => {
  const { blame, http } = errorRules[code];
  if (blame === "peer" || selfWith4xx.includes(code)) return; // a gateway's or a limit's status
  expect(Math.floor(http / 100)).toBe(httpOfBlame[blame]);
});

test("what is retryable is temporary or unavailable, and says so to a shell", () => {
  for (const code of codes) {
    if (errorRules[code].retryable) expect([69, 75]).toContain(errorRules[code].exit);
  }
});

test("a code is a code of the table, not a property that every object has", () => {
  for (const code of codes) expect(isErrorCode(code)).toBe(true);
  for (const other of ["constructor", "toString", "__proto__", "", "NOPE", 7, null, undefined, {}])
    expect(isErrorCode(other)).toBe(false);
});

test("an error's own remedy comes before the table's", () => {
  expect(new RingfoldError("USAGE", "no").remedy).toBe("See --help.");
  expect(new RingfoldError("USAGE", "no", { remedy: "Ask Ada." }).remedy).toBe("Ask Ada.");
});

test.each([
  [Object.assign(new Error("listen"), { code: "EADDRINUSE", port: 80 }), "PORT_IN_USE", "port 80 is in use"],
  [Object.assign(new Error("open"), { code: "ENOENT", path: "/x" }), "FILE_NOT_FOUND", "no such file: /x"],
  [new DOMException("late", "TimeoutError"), "REQUEST_TIMEOUT", "no answer in time"],
  [AbortSignal.abort().reason, "CANCELLED", "it was cancelled"],
  [new TypeError("first line\n  at stack"), "INTERNAL", "first line"],
  ["a string", "INTERNAL", "a string"],
  [undefined, "INTERNAL", "undefined"],
] as const)("%s becomes %s", (cause, code, message) => {
  const error = toRingfoldError(cause);
  expect(error).toMatchObject({ code, message });
  expect(error.cause).toBe(cause);
});

test("a RingfoldError passes unchanged, and another takes the fallback code", () => {
  const error = new RingfoldError("CONFLICT", "over");
  expect(toRingfoldError(error, "STORE_FAILED")).toBe(error);
  expect(toRingfoldError(new Error("disk"), "STORE_FAILED").code).toBe("STORE_FAILED");
});

test("whatever is thrown becomes one error of one line", () => {
  const thrown = fc.anything({
    withBigInt: true,
    withNullPrototype: true,
    withSparseArray: true,
    withDate: true,
    withMap: true,
  });
  fc.assert(
    fc.property(thrown, (cause) => {
      const error = toRingfoldError(cause);
      expect(error).toBeInstanceOf(RingfoldError);
      expect(error.message).not.toContain("\n");
    }),
  );
});
