import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type {
  DatasetManifest,
  Encoder,
  FittedPreparation,
  SplitContent,
} from "../../../protocol/messages/dataset.ts";
import type { TablePreparation } from "../../../protocol/preparation.ts";
import { type ChunkSink, ChunkWriter, chunkExamplesOf } from "../chunk-writer.ts";
import { createTyped, kindsOf, type TypedColumn } from "./column-kinds.ts";
import { TextCounts } from "./content-statistics.ts";
import { cellWriter, featureOf, fitEncoders } from "./encoders.ts";
import { featureNames } from "./feature-names.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import { readSource, type TableFormat } from "./source-table.ts";
import { describeColumns } from "./statistics.ts";
import { applyStep, countRows, fitStep } from "./steps.ts";
import { type Cell, own, quoted, Tables } from "./tables.ts";
import { fitClasses, targetOf, targetReader, typeTarget } from "./target.ts";
import { isOfTexts } from "./tokens.ts";

export type PreparedContent = Omit<DatasetManifest, "format" | "source" | "preparation">;

/**
 * A table becomes a data set: read, typed, split, taken through the steps, encoded, written as chunks.
 * @throws RingfoldError DATA_INVALID naming line, row or column; whatever the sink throws
 */
export async function prepareTable(
  from: { readonly path: string; readonly format: TableFormat },
  preparation: TablePreparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<PreparedContent> {
  const { signal } = watch;
  const tables = await Tables.open();
  try {
    watch.stage("reads the source");
    const names = await readSource(tables, from, preparation, signal);
    const { columns, kind } = await typeTarget(
      tables,
      await kindsOf(tables, names, preparation),
      preparation.target,
    );
    await createTyped(tables, columns, preparation.split, from.path, signal);
    assertBothSplits(await countRows(tables), preparation);
    watch.stage("describes the columns");
    const statistics = await describeColumns(tables, columns);
    watch.stage("fits the pipeline");
    const fitted = await fitTable(tables, columns, { preparation, kind, signal });
    const shape = shapeOf(fitted.encoders, targetOf(kind, fitted.classes ?? [], preparation.target.column));
    const written = await writeSplits(tables, { shape, fitted, preparation, put, watch });
    return { shape, chunkExamples: chunkExamplesOf(shape), ...written, fitted, statistics };
  } finally {
    await tables.close();
  }
}

/** Fits and does one step after the other; leaves the table as the encoders take it. */
async function fitTable(
  tables: Tables,
  columns: readonly TypedColumn[],
  {
    preparation,
    kind,
    signal,
  }: {
    readonly preparation: TablePreparation;
    readonly kind: "class" | "binary" | "number";
    readonly signal: AbortSignal;
  },
): Promise<FittedPreparation> {
  const { steps, target } = preparation;
  const fitted: FittedPreparation["steps"] = [];
  for (const step of steps) {
    if (step.do === "encode" || step.do === "tokenise") continue;
    const learned = await fitStep(step, { tables, columns, target: target.column });
    fitted.push(await applyStep(tables, learned, { keepRows: false, signal }));
  }
  assertBothSplits(await countRows(tables), preparation);
  const inputs = columns.filter(({ name }) => name !== target.column);
  const encoders = await fitEncoders(tables, inputs, steps);
  if (encoders.length === 0) throw new RingfoldError("DATA_INVALID", "no column is left to predict from");
  const classes = kind === "number" ? {} : { classes: await fitClasses(tables, target) };
  return { columns: [...columns], steps: fitted, encoders, ...classes };
}

function shapeOf(encoders: readonly Encoder[], target: ExampleShape["target"]): ExampleShape {
  const names = featureNames(encoders.map(({ column }) => column));
  const features = encoders.map((encoder, i) => featureOf(encoder, names[i]!));
  const length = features.reduce(
    (total, { shape }) => total + shape.reduce((product, size) => product * size, 1),
    0,
  );
  return { inputShape: [length], features, target };
}

interface Writing {
  readonly shape: ExampleShape;
  readonly fitted: FittedPreparation;
  readonly preparation: TablePreparation;
  readonly put: ChunkSink;
  readonly watch: PreparationWatch;
}

async function writeSplits(
  tables: Tables,
  writing: Writing,
): Promise<Pick<PreparedContent, "train" | "test" | "bytes" | "texts">> {
  const { fitted, preparation, watch } = writing;
  const total = await countRows(tables);
  const readTarget = targetReader(preparation.target, fitted.classes);
  const counts = fitted.encoders.map((encoder) => (isOfTexts(encoder) ? new TextCounts(encoder) : undefined));
  let done = 0;
  const writeSplit = async (
    side: string,
    onTokens?: TokenObserver,
  ): Promise<{ content: SplitContent; bytes: number }> => {
    const writeInputs = rowWriter(fitted.encoders, writing.shape, onTokens);
    const writer = new ChunkWriter(writing.shape, writing.put);
    const cells = [...fitted.encoders.map(({ column }) => column), preparation.target.column].map(quoted);
    for await (const rows of tables.stream(
      `SELECT ${own.row}, ${cells.join(", ")} FROM typed WHERE ${side} ORDER BY ${own.place}, ${own.row}`,
    )) {
      watch.signal.throwIfAborted();
      for (const [row, ...values] of rows) {
        await writer.add((inputs, target) => {
          writeInputs(values, Number(row), inputs);
          target[0] = readTarget(values.at(-1) ?? null, Number(row));
        });
      }
      done += rows.length;
      watch.progress(done, total.train + total.test);
    }
    return { content: await writer.finish(), bytes: writer.bytes };
  };
  watch.stage("writes chunks");
  const train = await writeSplit(`NOT ${own.isTest}`, (i, tokens) => counts[i]?.add(tokens));
  const test = await writeSplit(own.isTest);
  const texts = counts.flatMap((each) => each?.statistics(true) ?? []);
  return {
    ...{ train: train.content, test: test.content, bytes: train.bytes + test.bytes },
    ...(texts.length > 0 && { texts }),
  };
}

/** @param i of the encoder */
type TokenObserver = (i: number, tokens: readonly number[]) => void;

/** Writes the cells of one row as the row of an example. @throws RingfoldError DATA_INVALID for a number that is missing */
export function rowWriter(
  encoders: readonly Encoder[],
  { features = [] }: ExampleShape,
  onTokens?: TokenObserver,
): (cells: readonly Cell[], row: number, into: Float32Array) => void {
  let end = 0;
  const parts = encoders.map((encoder, i) => {
    const offset = end;
    end += features[i]!.shape.reduce((product, size) => product * size, 1);
    return { encoder, offset, write: cellWriter(encoder, onTokens && ((tokens) => onTokens(i, tokens))) };
  });
  return (cells, row, into) => {
    for (const [i, { encoder, offset, write }] of parts.entries()) {
      const cell = cells[i] ?? null;
      if (cell === null && encoder.kind === "number") throw missingNumber(encoder.column, row);
      write(cell, into, offset);
      if (!Number.isFinite(into[offset])) throw missingNumber(encoder.column, row, into[offset]);
    }
  };
}

function missingNumber(column: string, row: number, value?: number): RingfoldError {
  const what = value === undefined ? "there is no value" : `${value} is no finite 32-bit number`;
  const remedy = "Fill such cells or drop their rows with a `missing` step of the pipeline.";
  return new RingfoldError("DATA_INVALID", `column ${column}, row ${row + 1}: ${what}`, {
    column,
    row: row + 1,
    remedy,
  });
}

function assertBothSplits(
  { train, test }: { train: number; test: number },
  { split }: TablePreparation,
): void {
  const empty = train === 0 ? "training" : test === 0 && split.testShare > 0 ? "test" : undefined;
  if (empty === undefined) return;
  throw new RingfoldError(
    "DATA_INVALID",
    `the ${empty} split is empty: ${train} training and ${test} test rows with testShare ${split.testShare}`,
    { train, test, remedy: "Give more rows, or another split (by, testShare, seed) in the pipeline." },
  );
}
