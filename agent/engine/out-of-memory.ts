import { RingfoldError } from "../../protocol/errors.ts";

/** What is said when memory runs out: by V8 of an array, and by libtensorflow of a tensor. */
const signs = [
  /^array buffer allocation failed/i,
  /^invalid (typed )?array (buffer )?length/i,
  /\bOOM when allocating\b/,
  /\bRESOURCE_EXHAUSTED\b/,
];

/** The error as it is to be told, where it is one of memory: another ring of the same job would end there, too. */
export function outOfMemory(cause: unknown): RingfoldError | undefined {
  const text = cause instanceof Error && !(cause instanceof RingfoldError) ? cause.message : "";
  if (!signs.some((sign) => sign.test(text))) return undefined;
  const message = `the engine has run out of memory: ${text.split("\n", 1)[0]}`;
  return new RingfoldError("MODEL_TOO_LARGE", message, {}, { cause });
}
