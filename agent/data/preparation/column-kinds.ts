import { RingfoldError } from "../../../protocol/errors.ts";
import type { TablePreparation } from "../../../protocol/preparation.ts";
import { type Cell, own, quoted, type Tables, text } from "./tables.ts";

export type ColumnKind = "number" | "category" | "text";
export interface TypedColumn {
  readonly name: string;
  readonly kind: ColumnKind;
}

/** Longer on average than this, and mostly unlike each other: a text, not a category. */
const textLength = 24;

/**
 * What each column holds: as declared, else a number where most of its cells are numbers. A stray word among numbers is a
 * mistake that is named, and not a reason to take them all for words.
 * @throws RingfoldError DATA_INVALID for a declared column that is not there
 */
export async function kindsOf(
  tables: Tables,
  names: readonly string[],
  { columns, ignore, target }: Pick<TablePreparation, "columns" | "ignore" | "target">,
): Promise<TypedColumn[]> {
  for (const name of [...Object.keys(columns), ...ignore, target.column]) {
    if (!names.includes(name)) throw unknownColumn(name, names);
  }
  const kinds: TypedColumn[] = [];
  for (const name of names.filter((candidate) => !ignore.includes(candidate))) {
    kinds.push({ name, kind: columns[name] ?? (await guess(tables, name)) });
  }
  return kinds;
}

async function guess(tables: Tables, name: string): Promise<ColumnKind> {
  const cell = quoted(name);
  const [present, numbers, distinct, length] = (
    await tables.row(
      `SELECT count(${cell}), count(TRY_CAST(${cell} AS DOUBLE)), count(DISTINCT ${cell}), avg(length(${cell})) FROM source`,
    )
  ).map(Number) as [number, number, number, number];
  if (present > 0 && 2 * numbers > present) return "number";
  return length > textLength && 2 * distinct > present ? "text" : "category";
}

/**
 * The table `typed`: row, split, and every column in its type.
 * @throws RingfoldError DATA_INVALID naming column and row of a cell that is no finite number
 */
export async function createTyped(
  tables: Tables,
  columns: readonly TypedColumn[],
  split: TablePreparation["split"],
  path: string,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, kind } of columns) {
    if (kind !== "number") continue;
    const value = `TRY_CAST(${quoted(name)} AS DOUBLE)`;
    const [row, cell] = await tables.row(
      `SELECT rowid, ${quoted(name)} FROM source WHERE ${quoted(name)} IS NOT NULL AND (${value} IS NULL OR NOT isfinite(${value})) LIMIT 1`,
    );
    if (row !== undefined) throw strangeNumber(path, name, Number(row), cell ?? null);
  }
  const cells = columns.map(({ name, kind }) =>
    kind === "number" ? `CAST(${quoted(name)} AS DOUBLE) AS ${quoted(name)}` : quoted(name),
  );
  const { by = columns.map(({ name }) => name), seed, testShare } = split;
  // 32 bits of an MD5 (used as a hash, not as a secret): the same share on every machine and in every release.
  const key = by.map((name) => `coalesce(${quoted(name)}, chr(1))`).join(", ");
  const hash = (of: string) => `CAST('0x' || substr(md5(${of}), 1, 8) AS UBIGINT)`;
  const isTest = `${hash(`concat_ws(chr(31), ${text(String(seed))}, ${key})`)} < ${Math.round(testShare * 2 ** 32)}`;
  // Examples lie in the order of a hash: neighbours in the file are none in a chunk.
  const place = hash(`concat_ws(chr(31), ${text(`place ${seed}`)}, rowid)`);
  await tables.run(
    `CREATE TABLE typed AS SELECT rowid AS ${own.row}, ${isTest} AS ${own.isTest}, ${place} AS ${own.place}, ${cells.join(", ")} FROM source`,
    signal,
  );
}

export const unknownColumn = (name: string, names: readonly string[]): RingfoldError =>
  new RingfoldError(
    "DATA_INVALID",
    `there is no column ${name}; the columns are ${names.slice(0, 50).join(", ")}`,
    {
      column: name,
      remedy: "Correct the name in the pipeline or in --target.",
    },
  );

/** Rows count from 1, without the header. */
function strangeNumber(path: string, column: string, row: number, cell: Cell): RingfoldError {
  return new RingfoldError(
    "DATA_INVALID",
    `${path}: column ${column}, row ${row + 1}: ${JSON.stringify(cell)} is no finite number`,
    {
      column,
      row: row + 1,
      remedy: `Correct the cell, name it in missingValues, or declare the column a category (columns: {${column}: category}).`,
    },
  );
}
