import {
  detokeniser,
  marksOf,
  type TokenEncoder,
  tokenCount,
  tokeniser,
} from "../../../agent/data/preparation/tokens.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { InferenceTensor } from "./open-inference.ts";
import { tokenSampler } from "./sampling.ts";

/** What a model reads and what it writes. */
export interface TokenPair {
  readonly source: TokenEncoder;
  readonly target: TokenEncoder;
}

export interface Translation {
  readonly text: string;
  readonly translation: string;
  /** It came to its end; else the model has no place for more. */
  readonly complete: boolean;
  /** The text was longer than what the model reads. */
  readonly cut: boolean;
}

/** Texts that are written side by side, a token each with every request. */
const textsAtOnce = 32;

/**
 * Writes for each text what a model of `kind: pairs` makes of it: token after token, the likeliest each time (greedy decoding).
 * @param infer one prediction: rows of [source length + target length] to chances of [target length, tokens of the target]
 * Cost: a request for each token of the longest of 32 texts.
 */
export async function translate(
  texts: readonly string[],
  pair: TokenPair,
  infer: (input: InferenceTensor) => Promise<ArrayLike<number>>,
): Promise<Translation[]> {
  const translations: Translation[] = [];
  for (let from = 0; from < texts.length; from += textsAtOnce)
    translations.push(...(await translateTogether(texts.slice(from, from + textsAtOnce), pair, infer)));
  return translations;
}

async function translateTogether(
  texts: readonly string[],
  { source, target }: TokenPair,
  infer: (input: InferenceTensor) => Promise<ArrayLike<number>>,
): Promise<Translation[]> {
  const rowLength = source.length + target.length;
  const classCount = tokenCount(target);
  const { begin, end } = marksOf(target);
  const read = tokeniser(source);
  const pick = tokenSampler({ temperature: 0, topK: 1, seed: 0 });
  const all = texts.map((text) => ({ text, tokens: read(text), written: [] as number[], complete: false }));
  for (let place = 0; place < target.length; place++) {
    const open = all.filter(({ complete }) => !complete);
    if (open.length === 0) break;
    const data = new Float32Array(open.length * rowLength);
    for (const [row, { tokens, written }] of open.entries()) {
      data.set(tokens.slice(0, source.length), row * rowLength);
      data.set([begin, ...written], row * rowLength + source.length);
    }
    const chances = await infer({ shape: [open.length, rowLength], data });
    for (const [row, each] of open.entries()) {
      const at = (row * target.length + place) * classCount;
      const token = pick(Array.from({ length: classCount }, (_, i) => chances[at + i]!));
      if (token === end) each.complete = true;
      else each.written.push(token);
    }
  }
  const write = detokeniser(target);
  return all.map(({ text, tokens, written, complete }) => ({
    ...{ text, translation: write(written), complete, cut: tokens.length > source.length },
  }));
}

/** @throws RingfoldError REQUEST_INVALID when the model does not read and write such texts */
export function checkShapes(
  name: string,
  { source, target }: TokenPair,
  { input, output }: { readonly input: readonly number[]; readonly output: readonly number[] },
): void {
  const reads = [source.length + target.length].join();
  const writes = [target.length, tokenCount(target)].join();
  if (input.join() === reads && output.join() === writes) return;
  const message = `${name} takes [${input.join(", ")}] and gives [${output.join(", ")}]: it is no model that reads and writes such texts`;
  throw new RingfoldError("REQUEST_INVALID", message, { name });
}
