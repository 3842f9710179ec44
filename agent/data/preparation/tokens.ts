import type { Encoder } from "../../../protocol/messages/dataset.ts";

export type TokenEncoder = Extract<Encoder, { kind: "bytes" | "words" }>;

/** Tokens of a text that begins and ends: what is written follows `begin`, and `end` closes it. Padding is 0. */
export const marksOf = ({ kind }: TokenEncoder): { begin: number; end: number } =>
  kind === "bytes" ? { begin: 1, end: 2 } : { begin: 2, end: 3 };

/** How many tokens there are: padding, for words the unknown one, the marks where there are any, then the vocabulary. */
export const tokenCount = (encoder: TokenEncoder): number =>
  firstToken(encoder) + (encoder.kind === "bytes" ? 256 : encoder.values.length);

const firstToken = ({ kind, marked }: TokenEncoder): number => (kind === "bytes" ? 1 : 2) + (marked ? 2 : 0);

/** Text to tokens, none of them padding. */
export function tokeniser(encoder: TokenEncoder): (text: string) => number[] {
  const first = firstToken(encoder);
  if (encoder.kind === "bytes") return (text) => Array.from(Buffer.from(text), (byte) => first + byte);
  const places = new Map(encoder.values.map((word, place) => [word, first + place]));
  return (text) => splitWords(text).map((word) => places.get(word) ?? 1);
}

/** The most common words of some texts; of words as common as each other those that come first in the alphabet. */
export function commonWords(texts: Iterable<string>, countMax: number): string[] {
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
