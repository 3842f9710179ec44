import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { TablePreparation } from "../../../protocol/preparation.ts";
import type { TypedColumn } from "./column-kinds.ts";
import { misfit } from "./steps.ts";
import { type Cell, own, quoted, type Tables } from "./tables.ts";

type TargetSpec = TablePreparation["target"];

/** Whole numbers of so few kinds are labels unless the pipeline says otherwise. */
const numberClassesMax = 20;

/** A column of labels is read as words even where they are digits. @returns the columns with the target as it is meant */
export async function typeTarget(
  tables: Tables,
  columns: readonly TypedColumn[],
  { column, kind }: TargetSpec,
): Promise<{ columns: TypedColumn[]; kind: "class" | "binary" | "number" }> {
  const found = columns.find(({ name }) => name === column)!;
  const meant =
    kind ?? (found.kind === "number" && !(await looksLikeLabels(tables, column)) ? "number" : "class");
  if (meant === "number" && found.kind !== "number") {
    throw misfit(`the target ${column} is to be a number, and most of its cells are none`);
  }
  const type = meant === "number" ? ("number" as const) : ("category" as const);
  return {
    kind: meant,
    columns: columns.map((candidate) => (candidate === found ? { name: column, kind: type } : candidate)),
  };
}

async function looksLikeLabels(tables: Tables, name: string): Promise<boolean> {
  const value = `TRY_CAST(${quoted(name)} AS DOUBLE)`;
  const [distinct, broken] = await tables.row(
    `SELECT count(DISTINCT ${quoted(name)}), count(*) FILTER (${value} <> round(${value})) FROM source`,
  );
  return Number(distinct) <= numberClassesMax && Number(broken) === 0;
}

/** The labels of the classes in order: numbers by size, words by code point. Of the training rows, unless declared. */
export async function fitClasses(tables: Tables, { column, classes }: TargetSpec): Promise<string[]> {
  if (classes) return [...classes];
  const rows = await tables.rows(
    `SELECT DISTINCT ${quoted(column)} FROM typed WHERE NOT ${own.isTest} AND ${quoted(column)} IS NOT NULL`,
  );
  const labels = rows.map(([label]) => String(label));
  const isNumeric = labels.every((label) => label.trim() !== "" && Number.isFinite(Number(label)));
  labels.sort((a, b) => (isNumeric ? Number(a) - Number(b) : 0) || (a < b ? -1 : 1));
  if (labels.length < 2)
    throw misfit(`the target ${column} has ${labels.length} labels in the training rows, not two`);
  return labels;
}

export function targetOf(
  kind: "class" | "binary" | "number",
  classes: readonly string[],
  column: string,
): ExampleShape["target"] {
  if (kind === "class") return { kind, classCount: classes.length };
  if (kind === "binary" && classes.length !== 2) {
    throw misfit(
      `the target ${column} is to be binary and has ${classes.length} labels: ${classes.slice(0, 10).join(", ")}`,
    );
  }
  return { kind };
}

/** @throws RingfoldError DATA_INVALID naming the row, when a target is missing or no label of a class */
export function targetReader(
  { column }: TargetSpec,
  classes: readonly string[] | undefined,
): (cell: Cell, row: number) => number {
  const places = classes && new Map(classes.map((label, place) => [label, place]));
  return (cell, row) => {
    if (cell === null) throw strange(column, row, "there is no target; drop such rows with a `missing` step");
    if (!places) return Number(cell);
    const place = places.get(String(cell));
    if (place !== undefined) return place;
    const known = classes!.slice(0, 10).join(", ");
    throw strange(
      column,
      row,
      `${JSON.stringify(cell)} is none of the labels of the training rows (${known})`,
    );
  };
}

const strange = (column: string, row: number, problem: string): RingfoldError =>
  new RingfoldError("DATA_INVALID", `column ${column}, row ${row + 1}: ${problem}`, { column, row: row + 1 });
