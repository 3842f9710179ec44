import { RingfoldError } from "../../protocol/errors.ts";

/** Values of options of the benchmarks. All throw RingfoldError USAGE. */

export const listOf = (text: string): string[] => text.split(",").map((word) => word.trim());

export function wholeNumber(flag: string, word: string, min: number, max: number): number {
  const value = Number(word);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new RingfoldError("USAGE", `${flag}: '${word}' is not a whole number from ${min} to ${max}`);
}

export function oneOf<Name extends string>(flag: string, word: string, names: readonly Name[]): Name {
  const name = names.find((known) => known === word);
  if (name !== undefined) return name;
  throw new RingfoldError("USAGE", `${flag}: '${word}' is none of ${names.join(", ")}`);
}
