import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { PairsPreparation } from "../../../protocol/preparation.ts";
import type { ChunkSink } from "../chunk-writer.ts";
import { createTyped, type TypedColumn, unknownColumn } from "./column-kinds.ts";
import { TextCounts } from "./content-statistics.ts";
import { hashSplit } from "./hash-order.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import { readSource, type TableFormat } from "./source-table.ts";
import { writeExamples } from "./split-writer.ts";
import type { PreparedContent } from "./table-preparation.ts";
import { quoted, Tables } from "./tables.ts";
import { fitTokens, marksOf, type TokenEncoder, tokenCount, tokeniser } from "./tokens.ts";

/**
 * Two columns of texts become examples for a model that reads one and writes the other: the source, what is written so far
 * (it starts with a mark), and as the target what comes next (closed by another mark).
 * @throws RingfoldError DATA_INVALID naming line, row or column
 */
export async function preparePairs(
  from: { readonly path: string; readonly format: TableFormat },
  preparation: PairsPreparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<PreparedContent> {
  watch.stage("reads the source");
  const pairs = await readPairs(from, preparation, watch.signal);
  const splits = hashSplit(
    pairs.map(([source, target]) => `${source}\x1f${target}`),
    preparation.split,
  );
  watch.stage("fits the pipeline");
  const encoder = (side: 0 | 1): TokenEncoder => {
    const column = side === 0 ? preparation.source : preparation.target;
    const length = side === 0 ? preparation.sourceLength : preparation.targetLength;
    const texts = () => Array.from(splits.train, (index) => pairs[index]![side]);
    return fitTokens(preparation, { column, length, marked: true }, texts);
  };
  const encoders = [encoder(0), encoder(1)] as const;
  const writer = pairWriter(pairs, encoders);
  const counts = encoders.map((each) => new TextCounts(each));
  const observe = () => {
    for (const [side, tokens] of writer.last().entries()) counts[side]!.add(tokens);
  };
  const of = { write: writer.write, observe };
  const written = await writeExamples(shapeOf(encoders), splits, of, { put, watch });
  const texts = counts.map((each) => each.statistics(true));
  return { ...written, fitted: { columns: [], steps: [], encoders: [...encoders] }, statistics: [], texts };
}

type Pair = readonly [source: string, target: string];

async function readPairs(
  from: { readonly path: string; readonly format: TableFormat },
  { source, target, delimiter, split }: PairsPreparation,
  signal: AbortSignal,
): Promise<Pair[]> {
  const tables = await Tables.open();
  try {
    const names = await readSource(tables, from, { delimiter, missingValues: [""] }, signal);
    for (const name of [source, target]) if (!names.includes(name)) throw unknownColumn(name, names);
    const columns = [source, target].map((name): TypedColumn => ({ name, kind: "text" }));
    await createTyped(tables, columns, split, from.path, signal);
    const pairs: Pair[] = [];
    for await (const rows of tables.stream(`SELECT ${quoted(source)}, ${quoted(target)} FROM typed`)) {
      for (const [read, written] of rows) {
        if (typeof read === "string" && typeof written === "string") pairs.push([read, written]);
        else throw emptyCell(read === null ? source : target, pairs.length + 1);
      }
    }
    return pairs;
  } finally {
    await tables.close();
  }
}

function shapeOf([source, target]: readonly [TokenEncoder, TokenEncoder]): ExampleShape {
  const feature = (name: string, encoder: TokenEncoder) => ({
    ...{ name, shape: [encoder.length], kind: "category" as const },
    cardinality: tokenCount(encoder),
  });
  return {
    inputShape: [source.length + target.length],
    features: [feature("source", source), feature("target", target)],
    target: { kind: "tokens", length: target.length, classCount: tokenCount(target) },
  };
}

function pairWriter(pairs: readonly Pair[], [source, target]: readonly [TokenEncoder, TokenEncoder]) {
  const [read, write] = [tokeniser(source), tokeniser(target)];
  const { begin, end } = marksOf(target);
  let last: readonly (readonly number[])[] = [];
  const writePair = (index: number, row: Float32Array, into: Float32Array): void => {
    const [from, to] = pairs[index]!;
    const taken = read(from);
    row.set(taken.slice(0, source.length));
    const written = write(to);
    last = [taken, written];
    row.set([begin, ...written].slice(0, target.length), source.length);
    into.fill(-1);
    into.set([...written, end].slice(0, target.length));
  };
  /** Tokens of the pair that was written last, before they were cut. */
  return { write: writePair, last: () => last };
}

const emptyCell = (column: string, row: number): RingfoldError =>
  new RingfoldError("DATA_INVALID", `column ${column}, row ${row}: there is no text`, { column, row });
