import type { ColumnStatistics } from "../../../protocol/messages/dataset.ts";
import type { TypedColumn } from "./column-kinds.ts";
import { own, quoted, type Tables } from "./tables.ts";

const quantileShares = [0, 0.01, 0.25, 0.5, 0.75, 0.99, 1];
const topMax = 10;
/** A value is shown, not kept: a text of a megabyte would be in every manifest. */
const valueLengthMax = 64;

/** What the training rows hold, before any step. */
export async function describeColumns(
  tables: Tables,
  columns: readonly TypedColumn[],
): Promise<ColumnStatistics[]> {
  const statistics: ColumnStatistics[] = [];
  for (const column of columns) statistics.push(await describeColumn(tables, column));
  return statistics;
}

async function describeColumn(tables: Tables, { name, kind }: TypedColumn): Promise<ColumnStatistics> {
  const column = quoted(name);
  const rows = `FROM typed WHERE NOT ${own.isTest}`;
  const counts = await tables.row(`SELECT count(${column}), count(*), count(DISTINCT ${column}) ${rows}`);
  const [count, all, distinct] = counts.map(Number) as [number, number, number];
  const base = { name, kind, count, missing: all - count, distinct };
  if (kind === "number") {
    const quantiles = quantileShares.map((share) => `quantile_cont(${column}, ${share})`).join(", ");
    const [mean = null, sd = null, ...values] = await tables.row(
      `SELECT avg(${column}), stddev_pop(${column}), ${quantiles} ${rows}`,
    );
    const isEmpty = mean === null;
    const spread = { mean: isEmpty ? null : Number(mean), sd: sd === null ? null : Number(sd) };
    return { ...base, ...spread, quantiles: isEmpty ? [] : values.map(Number), top: [] };
  }
  const top = await tables.rows(
    `SELECT substr(${column}, 1, ${valueLengthMax}), count(*) ${rows} AND ${column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ${topMax}`,
  );
  const shown = top.map(([value, times]) => ({ value: String(value), count: Number(times) }));
  return { ...base, mean: null, sd: null, quantiles: [], top: kind === "text" ? [] : shown };
}
