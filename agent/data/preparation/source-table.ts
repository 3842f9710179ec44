import { writeFile } from "node:fs/promises";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { TablePreparation } from "../../../protocol/preparation.ts";
import { quoted, type Tables, text } from "./tables.ts";

export type TableFormat = "csv" | "jsonl" | "parquet";

const tableFormats: Readonly<Record<string, TableFormat>> = {
  csv: "csv",
  tsv: "csv",
  jsonl: "jsonl",
  ndjson: "jsonl",
  parquet: "parquet",
};

/** By the end of its name. @throws RingfoldError DATA_INVALID for another one */
export function tableFormat(path: string): TableFormat {
  const format = tableFormats[/\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? ""];
  if (format) return format;
  const known = Object.keys(tableFormats).join(", ");
  throw new RingfoldError("DATA_INVALID", `${path}: its name does not end as one of ${known}`, { path });
}

/** A cell that is larger than this is a mistake of quoting, or no table. */
const lineBytesMax = 16 * 1024 * 1024;

/**
 * Reads a file into the table `source`, every cell as text, rows in their order: `rowid` counts from 0.
 * @returns the names of its columns
 * @throws RingfoldError DATA_INVALID naming the line
 */
export async function readSource(
  tables: Tables,
  from: { readonly path: string; readonly format: TableFormat },
  { delimiter, missingValues }: Pick<TablePreparation, "delimiter" | "missingValues">,
  signal: AbortSignal,
): Promise<string[]> {
  const { path, format } = from;
  const invalid = (cause: unknown) => sourceInvalid(path, cause);
  try {
    const reader = await readerOf(tables, from, delimiter);
    const columns = (await tables.rows(`DESCRIBE SELECT * FROM ${reader}`)).map(([name, type]) => ({
      name: String(name),
      type: String(type),
    }));
    const nested = columns.find(({ type }) => /\[\]$|^(STRUCT|MAP|UNION)/.test(type));
    if (nested) throw new Error(`column ${nested.name} holds lists or objects, not single values`);
    const missing = missingValues.map(text).join(", ");
    const cells = columns.map(({ name }) => {
      const cell = `CAST(${quoted(name)} AS VARCHAR)`;
      const value = missing === "" ? cell : `CASE WHEN ${cell} IN (${missing}) THEN NULL ELSE ${cell} END`;
      return `${value} AS ${quoted(name)}`;
    });
    await tables.run(`CREATE TABLE source AS SELECT ${cells.join(", ")} FROM ${reader}`, signal);
    const [count] = await tables.row("SELECT count(*) FROM source");
    if (Number(count) === 0) throw new Error(format === "csv" ? "no rows after the header" : "no rows");
    return columns.map(({ name }) => name);
  } catch (cause) {
    signal.throwIfAborted();
    throw cause instanceof RingfoldError ? cause : invalid(cause);
  }
}

async function readerOf(
  tables: Tables,
  { path, format }: { readonly path: string; readonly format: TableFormat },
  delimiter: string,
): Promise<string> {
  if (format === "parquet") return `read_parquet(${text(path)})`;
  if (format === "jsonl") {
    return `read_json(${text(path)}, format = 'newline_delimited', sample_size = -1, maximum_object_size = ${lineBytesMax})`;
  }
  const columns = (await readHeader(tables, path, delimiter))
    .map((name) => `${text(name)}: 'VARCHAR'`)
    .join(", ");
  const dialect = `delim = ${text(delimiter)}, quote = '"', escape = '"', strict_mode = true`;
  return `read_csv(${text(path)}, auto_detect = false, header = true, columns = {${columns}}, ${dialect}, max_line_size = ${lineBytesMax})`;
}

/** The header by itself: sniffing the whole file would take a row that is too short for another dialect. */
async function readHeader(tables: Tables, path: string, delimiter: string): Promise<string[]> {
  const whole = `auto_detect = false, header = false, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = ''`;
  const [line] = await tables.row(`SELECT line FROM read_csv(${text(path)}, ${whole}) LIMIT 1`);
  if (typeof line !== "string") throw new Error("it is empty");
  const headerPath = tables.path("header.csv");
  await writeFile(headerPath, `${line.replace(/^\u{feff}/u, "")}\n`);
  const dialect = `delim = ${text(delimiter)}, quote = '"', escape = '"'`;
  const [names = []] = await tables.rows(
    `SELECT * FROM read_csv(${text(headerPath)}, header = false, all_varchar = true, ${dialect})`,
  );
  const columns = names.map((name) => String(name ?? ""));
  const nameless = columns.findIndex((name) => name.trim() === "");
  if (nameless >= 0) throw new Error(`line 1: column ${nameless + 1} has no name`);
  const lower = columns.map((name) => name.toLowerCase()); // as the engine compares them
  const double = lower.find((name, i) => lower.indexOf(name) !== i);
  if (double !== undefined) throw new Error(`line 1: two columns are named ${double}`);
  return columns;
}

/** The engine's first sentences; what follows is advice about its own options. */
function sourceInvalid(path: string, cause: unknown): RingfoldError {
  const lines = (cause instanceof Error ? cause.message : String(cause))
    .replace(/^(Invalid Input|Conversion|IO|Parser|Binder) Error: /, "")
    .split("\n")
    .map((line) => line.trim());
  const line = /on Line: (\d+)/.exec(lines[0] ?? "")?.[1];
  const found = lines.find((said) =>
    /^(Expected Number|Invalid unicode|Value with|Maximum line)/i.test(said),
  );
  const message =
    line === undefined ? (lines[0] ?? "") : `line ${line}: ${found ?? lines.slice(1).find(Boolean) ?? ""}`;
  return new RingfoldError("DATA_INVALID", `${path}: ${message.slice(0, 300)}`, { path }, { cause });
}
