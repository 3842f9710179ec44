import { RingfoldError } from "../../../protocol/errors.ts";
import type { FittedStep } from "../../../protocol/messages/dataset.ts";
import type { PreparationStep } from "../../../protocol/preparation.ts";
import { type TypedColumn, unknownColumn } from "./column-kinds.ts";
import { double, own, quoted, type Tables, text } from "./tables.ts";

type StepOf<Kind extends PreparationStep["do"]> = Extract<PreparationStep, { do: Kind }>;
type ShapingStep = Exclude<PreparationStep, { do: "encode" | "tokenise" }>;

interface Fitting {
  readonly tables: Tables;
  /** Columns of examples, the target included. */
  readonly columns: readonly TypedColumn[];
  readonly target: string;
}

/** Everything that is learned is learned from these. */
const trainRows = `FROM typed WHERE NOT ${own.isTest}`;

/**
 * What a step learns from the training rows as the steps before it have left them.
 * @throws RingfoldError DATA_INVALID when the step does not fit its columns
 */
export async function fitStep(step: ShapingStep, on: Fitting): Promise<FittedStep> {
  switch (step.do) {
    case "duplicates": {
      const columns = pick(step.columns, on, () => true);
      return { do: "drop", why: "duplicates", columns: names(columns), trainRows: 0, testRows: 0 };
    }
    case "missing":
      return fitMissing(step, on);
    case "outliers":
      return fitOutliers(step, on);
    case "normalise":
      return { do: "scale", scales: await fitScales(step, on) };
  }
}

async function fitMissing(step: StepOf<"missing">, on: Fitting): Promise<FittedStep> {
  const wantsNumber = step.with === "mean" || step.with === "median";
  const columns = pick(step.columns, on, ({ name, kind }) =>
    step.with === "drop" ? true : name !== on.target && (!wantsNumber || kind === "number"),
  );
  if (step.with === "drop") {
    return { do: "drop", why: "missing", columns: names(columns), trainRows: 0, testRows: 0 };
  }
  const values: Record<string, number | string> = {};
  for (const column of columns) {
    if (wantsNumber) assertNumber(column, `filled with the ${step.with}`);
    values[column.name] = await fillValue(step, column, on.tables);
  }
  return { do: "fill", values };
}

async function fillValue(
  step: StepOf<"missing">,
  { name, kind }: TypedColumn,
  tables: Tables,
): Promise<number | string> {
  const column = quoted(name);
  if (step.with === "constant") {
    const { value } = step;
    if (value === undefined) throw misfit("missing: `with: constant` needs a `value`");
    if (kind === "number" && typeof value !== "number")
      throw misfit(`missing: ${name} holds numbers, and the value is "${value}"`);
    return kind === "number" ? value : String(value);
  }
  const question = {
    mean: `SELECT avg(${column}) ${trainRows}`,
    median: `SELECT quantile_cont(${column}, 0.5) ${trainRows}`,
    mode: `SELECT ${column} ${trainRows} AND ${column} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1`,
    drop: "",
  }[step.with];
  const [value] = await tables.row(question);
  if (value === undefined || value === null) throw misfit(`missing: no training row has a value of ${name}`);
  return kind === "number" ? Number(value) : String(value);
}

async function fitOutliers(step: StepOf<"outliers">, on: Fitting): Promise<FittedStep> {
  if (step.low >= step.high) throw misfit("outliers: `low` must be less than `high`");
  const bounds: Record<string, { low: number; high: number }> = {};
  for (const { name } of numbers(step.columns, on, "freed of outliers")) {
    const column = quoted(name);
    const question =
      step.method === "quantile"
        ? `quantile_cont(${column}, ${step.low}), quantile_cont(${column}, ${step.high})`
        : `avg(${column}) - ${step.limit} * stddev_pop(${column}), avg(${column}) + ${step.limit} * stddev_pop(${column})`;
    const [low, high] = await on.tables.row(`SELECT ${question} ${trainRows}`);
    if (low === null || high === null) throw misfit(`outliers: no training row has a value of ${name}`);
    bounds[name] = { low: Number(low), high: Number(high) };
  }
  if (step.action === "clip") return { do: "clip", bounds };
  return { do: "drop", why: "outliers", columns: Object.keys(bounds), bounds, trainRows: 0, testRows: 0 };
}

async function fitScales(
  step: StepOf<"normalise">,
  on: Fitting,
): Promise<Record<string, { shift: number; factor: number }>> {
  const scales: Record<string, { shift: number; factor: number }> = {};
  for (const { name } of numbers(step.columns, on, "normalised")) {
    const column = quoted(name);
    const question =
      step.method === "standard"
        ? `avg(${column}), stddev_pop(${column})`
        : `min(${column}), max(${column}) - min(${column})`;
    const [shift, factor] = await on.tables.row(`SELECT ${question} ${trainRows}`);
    if (shift === null) throw misfit(`normalise: no training row has a value of ${name}`);
    // A column that is the same everywhere becomes zeros, not a division by zero.
    scales[name] = { shift: Number(shift), factor: Number(factor) || 1 };
  }
  return scales;
}

/**
 * Does a fitted step to the table `typed`.
 * @param keepRows for predictions, which take every row
 * @returns the step, with how many rows it has dropped
 */
export async function applyStep(
  tables: Tables,
  step: FittedStep,
  { keepRows, signal }: { readonly keepRows: boolean; readonly signal: AbortSignal },
): Promise<FittedStep> {
  if (step.do !== "drop") {
    const cells = replacements(step);
    if (cells.length > 0) await rewrite(tables, `SELECT * REPLACE (${cells.join(", ")}) FROM typed`, signal);
    return step;
  }
  if (keepRows || step.columns.length === 0) return step;
  const before = await countRows(tables);
  await rewrite(tables, `SELECT * FROM typed WHERE ${keptRows(step)}`, signal);
  const after = await countRows(tables);
  return { ...step, trainRows: before.train - after.train, testRows: before.test - after.test };
}

function replacements(step: Exclude<FittedStep, { do: "drop" }>): string[] {
  switch (step.do) {
    case "fill":
      return Object.entries(step.values).map(([name, value]) => {
        const constant = typeof value === "number" ? double(value) : text(value);
        return `coalesce(${quoted(name)}, ${constant}) AS ${quoted(name)}`;
      });
    case "clip":
      return Object.entries(step.bounds).map(([name, { low, high }]) => {
        const column = quoted(name);
        // least() and greatest() pass a missing value over; it stays missing.
        return `CASE WHEN ${column} IS NULL THEN NULL ELSE least(greatest(${column}, ${double(low)}), ${double(high)}) END AS ${column}`;
      });
    case "scale":
      return Object.entries(step.scales).map(
        ([name, { shift, factor }]) =>
          `(${quoted(name)} - ${double(shift)}) / ${double(factor)} AS ${quoted(name)}`,
      );
  }
}

function keptRows({ why, columns, bounds = {} }: Extract<FittedStep, { do: "drop" }>): string {
  if (why === "missing") return columns.map((name) => `${quoted(name)} IS NOT NULL`).join(" AND ");
  if (why === "duplicates") {
    const key = columns.map(quoted).join(", ");
    return `${own.row} IN (SELECT min(${own.row}) FROM typed GROUP BY ${key})`;
  }
  const inside = Object.entries(bounds).map(
    ([name, { low, high }]) =>
      `(${quoted(name)} IS NULL OR ${quoted(name)} BETWEEN ${double(low)} AND ${double(high)})`,
  );
  // The held-out rows stay: a test without its hard cases would flatter.
  return `${own.isTest} OR (${inside.join(" AND ")})`;
}

async function rewrite(tables: Tables, select: string, signal: AbortSignal): Promise<void> {
  await tables.run(`CREATE TABLE next AS ${select}`, signal);
  await tables.run("DROP TABLE typed; ALTER TABLE next RENAME TO typed", signal);
}

export async function countRows(tables: Tables): Promise<{ train: number; test: number }> {
  const [train, test] = await tables.row(
    `SELECT count(*) FILTER (NOT ${own.isTest}), count(*) FILTER (${own.isTest}) FROM typed`,
  );
  return { train: Number(train), test: Number(test) };
}

function numbers(named: readonly string[] | undefined, on: Fitting, what: string): TypedColumn[] {
  const columns = pick(named, on, ({ name, kind }) => kind === "number" && name !== on.target);
  for (const column of columns) {
    assertNumber(column, what);
    if (column.name === on.target) throw misfit(`${column.name} is the target, and is not ${what}`);
  }
  return columns;
}

/** @throws RingfoldError DATA_INVALID for a column that is not there */
export function pick(
  named: readonly string[] | undefined,
  { columns }: Pick<Fitting, "columns">,
  otherwise: (column: TypedColumn) => boolean,
): TypedColumn[] {
  if (!named) return columns.filter(otherwise);
  return named.map((name) => {
    const column = columns.find((candidate) => candidate.name === name);
    if (!column)
      throw unknownColumn(
        name,
        columns.map((known) => known.name),
      );
    return column;
  });
}

const names = (columns: readonly TypedColumn[]): string[] => columns.map(({ name }) => name);

function assertNumber({ name, kind }: TypedColumn, what: string): void {
  if (kind !== "number")
    throw misfit(`column ${name} holds ${kind === "text" ? "texts" : "categories"} and cannot be ${what}`);
}

export const misfit = (message: string): RingfoldError =>
  new RingfoldError("DATA_INVALID", message, {
    remedy: "Correct the pipeline; docs/data.md lists every step.",
  });
