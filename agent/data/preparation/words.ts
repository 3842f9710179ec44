const segmenter = new Intl.Segmenter("en", { granularity: "word" });

/** Words and marks of a text in lower case, by Unicode's rules (UAX #29), so that no language is left out. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  for (const { segment } of segmenter.segment(text.normalize("NFKC").toLowerCase()))
    if (segment.trim() !== "") words.push(segment);
  return words;
}
