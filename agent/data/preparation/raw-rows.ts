import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { DatasetManifest } from "../../../protocol/messages/dataset.ts";
import { createTyped, unknownColumn } from "./column-kinds.ts";
import { readSource, tableFormat } from "./source-table.ts";
import { applyStep } from "./steps.ts";
import { rowWriter } from "./table-preparation.ts";
import { own, quoted, Tables } from "./tables.ts";

/**
 * Raw rows of a table made into inputs as the training rows were: the fitted steps and encoders of the data set. Every row is
 * taken, none dropped; a target is neither needed nor read.
 * @returns f32 [count, row length]
 * @throws RingfoldError DATA_INVALID naming line, row or column; PAYLOAD_TOO_LARGE
 */
export async function prepareRows(
  path: string,
  { preparation, fitted, shape }: Pick<DatasetManifest, "preparation" | "fitted" | "shape">,
  signal: AbortSignal,
): Promise<{ count: number; data: Float32Array }> {
  if (preparation.kind !== "table") {
    throw new RingfoldError("USAGE", `the model was trained on ${preparation.kind}, and not on a table`);
  }
  const tables = await Tables.open();
  try {
    const names = await readSource(tables, { path, format: tableFormat(path) }, preparation, signal);
    const columns = fitted.columns.filter(({ name }) => name !== preparation.target.column);
    for (const { name } of columns) if (!names.includes(name)) throw unknownColumn(name, names);
    await createTyped(tables, columns, { testShare: 0, seed: 1 }, path, signal);
    for (const step of fitted.steps) await applyStep(tables, step, { keepRows: true, signal });
    const [rows] = await tables.row("SELECT count(*) FROM typed");
    const [count, width] = [Number(rows), shape.inputShape[0]!];
    if (4 * count * width > limits.predictBodyBytes) {
      throw new RingfoldError("PAYLOAD_TOO_LARGE", `${count} rows of ${width} numbers are too many at once`, {
        remedy: "Predict them in parts.",
      });
    }
    const data = new Float32Array(count * width);
    const write = rowWriter(fitted.encoders, shape);
    const cells = fitted.encoders.map(({ column }) => quoted(column)).join(", ");
    let at = 0;
    for await (const chunk of tables.stream(`SELECT ${own.row}, ${cells} FROM typed ORDER BY ${own.row}`)) {
      for (const [row, ...values] of chunk)
        write(values, Number(row), data.subarray(at++ * width, at * width));
    }
    return { count, data };
  } finally {
    await tables.close();
  }
}
