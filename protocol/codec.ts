import { Packr } from "msgpackr";
import type { z } from "zod";
import { RingfoldError } from "./errors.ts";

/**
 * msgpack with plain maps only: no records, no extension that would build classes. `moreTypes: false` keeps Error, Set
 * and RegExp extensions away from bytes that a peer chose.
 */
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
  } catch (cause) {
    throw new RingfoldError(
      "MESSAGE_INVALID",
      "bytes are not msgpack",
      { bytes: bytes.byteLength },
      { cause },
    );
  }
  return validate(value, schema, "message");
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
