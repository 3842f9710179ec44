import { readFile, stat } from "node:fs/promises";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { TextPreparation } from "../../../protocol/preparation.ts";
import type { ChunkSink } from "../chunk-writer.ts";
import { TextCounts } from "./content-statistics.ts";
import { hashSplit } from "./hash-order.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import { writeExamples } from "./split-writer.ts";
import type { PreparedContent } from "./table-preparation.ts";
import { fitTokens, tokenCount, tokeniser } from "./tokens.ts";

/** It is held in memory, with four bytes a token beside it. */
const textBytesMax = 1024 ** 3;

/**
 * A text becomes examples of a language model: stretches of `length` tokens, the target of each token the one that follows.
 * @throws RingfoldError DATA_INVALID naming the line of bytes that are no UTF-8, or when the text is too short or too long
 */
export async function prepareText(
  path: string,
  preparation: TextPreparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<PreparedContent> {
  const { length, split } = preparation;
  watch.stage("reads the source");
  const text = await readText(path);
  // Stretches of the same number of characters are held out whole, so that a vocabulary can leave them out.
  const pieces = cutText(text, preparation);
  const { train, test } = hashSplit([...pieces.keys()], split);
  watch.stage("fits the pipeline");
  const encoder = fitTokens(preparation, { column: "text", length }, () => trainTexts(pieces, train));
  const tokenise = tokeniser(encoder);
  const tokens = pieces.map((piece) => Uint32Array.from(tokenise(piece)));
  const counts = new TextCounts(encoder);
  for (const index of train) counts.add(tokens[index]!);
  const classCount = tokenCount(encoder);
  const shape: ExampleShape = {
    inputShape: [length],
    features: [{ name: "tokens", shape: [length], kind: "category", cardinality: classCount }],
    target: { kind: "tokens", length, classCount },
  };
  const windows = (indices: Uint32Array) => windowsOf(tokens, indices, length);
  const all = [...windows(train), ...windows(test)];
  const trainCount = windows(train).length;
  const indices = Uint32Array.from(all.keys());
  const splits = { train: indices.subarray(0, trainCount), test: indices.subarray(trainCount) };
  const write = (index: number, row: Float32Array, target: Float32Array) => {
    const { piece, start } = all[index]!;
    const stretch = tokens[piece]!.subarray(start, start + length + 1);
    row.set(stretch.subarray(0, length));
    target.fill(-1);
    target.set(stretch.subarray(1));
  };
  const written = await writeExamples(shape, splits, { write }, { put, watch });
  const texts = [counts.statistics(false)];
  return { ...written, fitted: { columns: [], steps: [], encoders: [encoder] }, statistics: [], texts };
}

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > textBytesMax) {
    throw new RingfoldError("DATA_INVALID", `${path}: ${size} bytes, at most ${textBytesMax}`, {
      path,
      remedy: "Cut the text into several data sets.",
    });
  }
  const bytes = await readFile(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    const line = brokenLine(bytes);
    throw new RingfoldError(
      "DATA_INVALID",
      `${path}: line ${line}: it is not UTF-8 text`,
      { path, line },
      { cause },
    );
  }
}

function brokenLine(bytes: Buffer): number {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const found = bytes.indexOf(0x0a, start);
    const end = found < 0 ? bytes.length : found + 1;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end;
  }
  return line;
}

/** Some tens of examples in each: few sentences are cut, and the sides of the split are not neighbours everywhere. */
const examplesOfPiece = 16;
/** Of a token, about. */
const charactersOf = { bytes: 1, bpe: 3, words: 6 } as const;

function cutText(text: string, { method, length }: TextPreparation): string[] {
  const characters = examplesOfPiece * length * charactersOf[method];
  const pieces: string[] = [];
  for (let start = 0; start < text.length; ) {
    const end = pieceEnd(text, start + characters);
    pieces.push(text.slice(start, end));
    start = end;
  }
  return pieces;
}

/** After a blank or a new line where there is one near, so that no word is cut; never within a surrogate pair. */
function pieceEnd(text: string, wanted: number): number {
  if (wanted >= text.length) return text.length;
  const blank = /\s/.exec(text.slice(wanted, wanted + 256));
  if (blank) return wanted + blank.index + 1;
  const code = text.charCodeAt(wanted);
  return code >= 0xdc00 && code <= 0xdfff ? wanted + 1 : wanted;
}

function* trainTexts(pieces: readonly string[], train: Uint32Array): Generator<string> {
  for (const index of train) yield pieces[index]!;
}

/** Stretches of a piece begin `length` tokens apart; one needs two tokens at least, one to read and one to tell. */
function windowsOf(
  tokens: readonly Uint32Array[],
  indices: Uint32Array,
  length: number,
): { piece: number; start: number }[] {
  const windows: { piece: number; start: number }[] = [];
  for (const piece of indices)
    for (let start = 0; start + 1 < tokens[piece]!.length; start += length) windows.push({ piece, start });
  return windows;
}
