import { Packr } from "msgpackr";
import type { z } from "zod";
import { RingfoldError } from "./errors.ts";

/** msgpack with plain maps only: no records, no extension types. What a peer sends is held to that by `checkPlain`. */
const packr = new Packr({ useRecords: false, moreTypes: false, mapsAsObjects: true, int64AsType: "number" });

export function encode(value: unknown): Uint8Array {
  return packr.pack(value);
}

/**
 * Decodes and validates bytes of a peer.
 * @throws RingfoldError MESSAGE_TOO_LARGE | MESSAGE_INVALID, never anything else
 */
export function decode<T>(bytes: Uint8Array, schema: z.ZodType<T>, bytesMax: number): T {
  if (bytes.byteLength > bytesMax) {
    throw new RingfoldError(
      "MESSAGE_TOO_LARGE",
      `message of ${bytes.byteLength} bytes, at most ${bytesMax}`,
      {
        bytes: bytes.byteLength,
        bytesMax,
      },
    );
  }
  let value: unknown;
  try {
    value = packr.unpack(bytes);
    checkPlain(value, nestingMax);
  } catch (cause) {
    throw new RingfoldError(
      "MESSAGE_INVALID",
      "bytes are not plain msgpack",
      { bytes: bytes.byteLength },
      { cause },
    );
  }
  return validate(value, schema, "message");
}

/** A TF.js topology nests about 20 deep; far below what overflows the stack of whoever walks a message later. */
const nestingMax = 100;

/** msgpackr reads extensions that it would not write; a Set or an Error of a peer's making must not pass `z.unknown()`. */
function checkPlain(value: unknown, nestingLeft: number): void {
  if (typeof value === "bigint") throw new Error("a big integer");
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (nestingLeft === 0) throw new Error(`nested deeper than ${nestingMax}`);
  if (Array.isArray(value)) for (const element of value) checkPlain(element, nestingLeft - 1);
  else if (Object.getPrototypeOf(value) !== Object.prototype) throw new Error("an object of a class");
  else for (const key in value) checkPlain((value as Record<string, unknown>)[key], nestingLeft - 1);
}

/** Validates a value; the error names the first wrong field. */
export function validate<T>(value: unknown, schema: z.ZodType<T>, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue?.path.join(".") ?? "";
  throw new RingfoldError(
    "MESSAGE_INVALID",
    `${what}${path ? `, field ${path}` : ""}: ${issue?.message ?? "invalid"}`,
    {
      path,
    },
  );
}
