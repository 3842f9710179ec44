/**
 * Byte-pair encoding over bytes: tokens 0-255 are the bytes, and each merge makes one token of two that often stand side by
 * side. Nothing is unknown and nothing is lost, in any language.
 *
 * Sources: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", 2016, section 3.2; over
 * bytes, and with this way to cut a text into words: Radford et al., "Language models are unsupervised multitask learners", 2019.
 */
export type Merge = [left: number, right: number];

const byteCount = 256;
/** A merge never crosses the end of a word. A blank belongs to the word behind it; a run without an end is cut. */
const wordPattern =
  /'(?:s|t|re|ve|m|ll|d)| ?\p{L}{1,64}| ?\p{N}{1,64}| ?[^\s\p{L}\p{N}]{1,64}|\s{1,64}(?!\S)|\s{1,64}/gu;
/** No more tokens than this, or a pair of them would be no exact number. */
const pairBase = 2 ** 20;
const pairOf = (left: number, right: number): number => left * pairBase + right;

const wordsOf = (text: string): string[] => text.match(wordPattern) ?? [];

/**
 * The merges of some texts, the most frequent pair first; of pairs as frequent as each other that with the lower tokens, so
 * the same texts give the same merges everywhere. Ends early when no pair is left that occurs twice.
 * Cost: half a second for 2 MB of English and 10,000 merges.
 */
export function learnMerges(texts: Iterable<string>, mergeCountMax: number): Merge[] {
  const counts = new Map<string, number>();
  for (const text of texts) for (const word of wordsOf(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const table = new PairTable();
  for (const [word, count] of counts) table.add([...Buffer.from(word)], count);
  const merges: Merge[] = [];
  while (merges.length < mergeCountMax) {
    const pair = table.takeMostFrequent();
    if (pair === undefined) break;
    const merge: Merge = [Math.floor(pair / pairBase), pair % pairBase];
    table.merge(merge, byteCount + merges.length);
    merges.push(merge);
  }
  return merges;
}

/** How often each pair of neighbours occurs in some words, kept up to date while pairs are merged. */
class PairTable {
  readonly #words: { tokens: number[]; readonly count: number }[] = [];
  readonly #counts = new Map<number, number>();
  /** Where a pair has been seen; it may be gone from there. */
  readonly #places = new Map<number, Set<number>>();
  /** A heap of pairs with the counts that they had when they were put there: what has become rarer since goes back. */
  readonly #heap: { readonly pair: number; readonly count: number }[] = [];
  #isFilled = false;

  add(tokens: number[], count: number): void {
    this.#words.push({ tokens, count });
    this.#note(this.#words.length - 1, 1);
  }

  /** Undefined when none occurs twice. */
  takeMostFrequent(): number | undefined {
    if (!this.#isFilled) for (const [pair, count] of this.#counts) this.#push({ pair, count });
    this.#isFilled = true;
    for (let top = this.#pop(); top !== undefined; top = this.#pop()) {
      const count = this.#counts.get(top.pair) ?? 0;
      if (count < 2) continue;
      if (count === top.count) return top.pair;
      this.#push({ pair: top.pair, count });
    }
    return undefined;
  }

  merge([left, right]: Merge, token: number): void {
    const pair = pairOf(left, right);
    const fresh = new Set<number>();
    for (const index of this.#places.get(pair) ?? []) {
      const word = this.#words[index]!;
      this.#note(index, -1);
      word.tokens = merged(word.tokens, left, right, token);
      this.#note(index, 1);
      for (let i = 1; i < word.tokens.length; i++) {
        if (word.tokens[i] === token || word.tokens[i - 1] === token)
          fresh.add(pairOf(word.tokens[i - 1]!, word.tokens[i]!));
      }
    }
    this.#places.delete(pair);
    this.#counts.delete(pair);
    for (const made of fresh) this.#push({ pair: made, count: this.#counts.get(made)! });
  }

  #note(index: number, sign: 1 | -1): void {
    const { tokens, count } = this.#words[index]!;
    for (let i = 1; i < tokens.length; i++) {
      const pair = pairOf(tokens[i - 1]!, tokens[i]!);
      this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + sign * count);
      if (sign < 0) continue;
      const places = this.#places.get(pair);
      if (places) places.add(index);
      else this.#places.set(pair, new Set([index]));
    }
  }

  #push(entry: { readonly pair: number; readonly count: number }): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    for (let parent = (at - 1) >> 1; at > 0 && comesFirst(entry, heap[parent]!); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): { readonly pair: number; readonly count: number } | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && comesFirst(heap[child + 1]!, heap[child]!)) child++;
      if (!comesFirst(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

const comesFirst = (a: { pair: number; count: number }, b: { pair: number; count: number }): boolean =>
  a.count > b.count || (a.count === b.count && a.pair < b.pair);

function merged(tokens: readonly number[], left: number, right: number, token: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] === left && tokens[i + 1] === right) {
      result.push(token);
      i++;
    } else result.push(tokens[i]!);
  }
  return result;
}

/** Words whose tokens are kept: those of a language are fewer. */
const knownWordsMax = 65_536;

/** Text to tokens, as the merges say, in their order. */
export function pairEncoder(merges: readonly Merge[]): (text: string) => number[] {
  const places = new Map(merges.map(([left, right], place) => [pairOf(left, right), place]));
  const known = new Map<string, readonly number[]>();
  const encodeWord = (word: string): readonly number[] => {
    let tokens = [...Buffer.from(word)];
    for (;;) {
      let first = Number.POSITIVE_INFINITY;
      for (let i = 1; i < tokens.length; i++)
        first = Math.min(first, places.get(pairOf(tokens[i - 1]!, tokens[i]!)) ?? first);
      const merge = merges[first];
      if (!merge) return tokens;
      tokens = merged(tokens, merge[0], merge[1], byteCount + first);
    }
  };
  return (text) =>
    wordsOf(text).flatMap((word) => {
      const found = known.get(word);
      if (found) return found;
      if (known.size >= knownWordsMax) known.clear();
      const tokens = encodeWord(word);
      known.set(word, tokens);
      return tokens;
    });
}

/** The bytes of each token. */
export function pairBytes(merges: readonly Merge[]): (token: number) => readonly number[] {
  const bytes: (readonly number[])[] = Array.from({ length: byteCount }, (_, byte) => [byte]);
  for (const [left, right] of merges) bytes.push([...bytes[left]!, ...bytes[right]!]);
  return (token) => bytes[token] ?? [];
}
