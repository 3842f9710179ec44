import type { Encoder } from "../../../protocol/messages/dataset.ts";
import { learnMerges, pairBytes, pairEncoder } from "./byte-pairs.ts";

export type TokenEncoder = Extract<Encoder, { kind: "bytes" | "words" | "bpe" }>;

export const isOfTexts = (encoder: Encoder): encoder is TokenEncoder =>
  encoder.kind === "bytes" || encoder.kind === "words" || encoder.kind === "bpe";

/** Tokens of a text that begins and ends: what is written follows `begin`, and `end` closes it. Padding is 0. */
export const marksOf = ({ kind }: TokenEncoder): { begin: number; end: number } =>
  kind === "words" ? { begin: 2, end: 3 } : { begin: 1, end: 2 };

/** How many tokens there are: padding, for words the unknown one, the marks where there are any, then the vocabulary. */
export function tokenCount(encoder: TokenEncoder): number {
  if (encoder.kind === "words") return firstToken(encoder) + encoder.values.length;
  return firstToken(encoder) + 256 + (encoder.kind === "bpe" ? encoder.merges.length : 0);
}

const firstToken = ({ kind, marked }: TokenEncoder): number => (kind === "words" ? 2 : 1) + (marked ? 2 : 0);

/** What a column of texts is encoded with, learned from these texts. */
export function fitTokens(
  { method, vocabularyMax }: { readonly method: TokenEncoder["kind"]; readonly vocabularyMax: number },
  column: { readonly column: string; readonly length: number; readonly marked?: true },
  texts: () => Iterable<string>,
): TokenEncoder {
  switch (method) {
    case "bytes":
      return { kind: method, ...column };
    case "words":
      return { kind: method, ...column, values: commonWords(texts(), vocabularyMax) };
    case "bpe": {
      const mergeCount = Math.min(mergesMax, Math.max(0, vocabularyMax - 256));
      return { kind: method, ...column, merges: learnMerges(texts(), mergeCount) };
    }
  }
}
/** With the bytes 65,536 tokens. */
const mergesMax = 65_280;

/** Text to tokens, none of them padding. */
export function tokeniser(encoder: TokenEncoder): (text: string) => number[] {
  const first = firstToken(encoder);
  if (encoder.kind === "bytes") return (text) => Array.from(Buffer.from(text), (byte) => first + byte);
  if (encoder.kind === "bpe") {
    const encode = pairEncoder(encoder.merges);
    return (text) => encode(text).map((token) => first + token);
  }
  const places = new Map(encoder.values.map((word, place) => [word, first + place]));
  return (text) => splitWords(text).map((word) => places.get(word) ?? 1);
}

/** Tokens to text. Padding and marks are left out; words come with blanks between them, in lower case, as they were read. */
export function detokeniser(encoder: TokenEncoder): (tokens: readonly number[]) => string {
  const first = firstToken(encoder);
  if (encoder.kind === "words") {
    const words = (tokens: readonly number[]) =>
      tokens.flatMap((token) => encoder.values[token - first] ?? (token === 1 ? "\ufffd" : []));
    return (tokens) => words(tokens).join(" ");
  }
  const bytesOf = pairBytes(encoder.kind === "bpe" ? encoder.merges : []);
  return (tokens) =>
    new TextDecoder().decode(Uint8Array.from(tokens.flatMap((token) => bytesOf(token - first))));
}

/** The most common words of some texts; of words as common as each other those that come first in the alphabet. */
function commonWords(texts: Iterable<string>, countMax: number): string[] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const word of splitWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts]
    .sort(([a, countOfA], [b, countOfB]) => countOfB - countOfA || (a < b ? -1 : 1))
    .slice(0, countMax)
    .map(([word]) => word);
}

const segmenter = new Intl.Segmenter("en", { granularity: "word" });

/** Words and marks of a text in lower case, by Unicode's rules (UAX #29), so that no language is left out. */
function splitWords(text: string): string[] {
  const words: string[] = [];
  for (const { segment } of segmenter.segment(text.normalize("NFKC").toLowerCase()))
    if (segment.trim() !== "") words.push(segment);
  return words;
}
